# ruff: noqa: E501
"""The whole table as a user sees it, at 80 and at 120 columns.

The gate's numbers have tests of their own: here a number is a ``#`` in the lines that explain
verdicts, except in ``20:1 needed``, and in what a pass proves.
"""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from report_sessions import FOLDER, SOURCE, compared, new_test, session, short_answer

from pytest_llmperf.report.table import render_table
from pytest_llmperf.text import display_width

PASSING = session(short_answer(), baseline_sources=(SOURCE,))
FIRST_RUN = session(new_test())
REGRESSED = session(
    short_answer(
        1.3,
        findings=("2 stalls: iterations over 1.25 times their process's median",),
        causes=("llm.n_batch: 512, was 1024",),
        differences=("llm.n_batch: 512, was 1024",),
    ),
    new_test(),
    replace(short_answer(), nodeid="tests/perf/test_chat.py::test_another_answer"),
    busy=("process 4242 (stress) used 1.9 of 2 cores",),
    baseline_sources=(
        SOURCE,
        *(f"{FOLDER}/202611{n:02}T101500Z_abc.json" for n in range(2, 11)),
    ),
)
COMPARED = session(
    compared(),
    against="other.yaml",
    side_differences=("llm.flash_attn: base false, candidate true",),
)
SUSPECT = session(short_answer(sessions=1), baseline_sources=(SOURCE,))
LONG_IDS = session(
    *(
        replace(
            short_answer(),
            nodeid="tests/perf/chat/test_conversations.py::TestLongConversations::"
            f"test_the_whole_conversation[n_ctx-{n_ctx}-with-a-very-long-parameter]",
        )
        for n_ctx in (2048, 4096)
    ),
    baseline_sources=(SOURCE,),
)

_ROW = re.compile(r"  \S+( \S+)?  +\S")
_EXPLAINED = re.compile(r"  .*(%|:1|needed|slower|once in)")


def rendered(name: str, width: int, verbosity: int) -> str:
    """Return the table with the numbers of its explanations masked."""
    return "\n".join(map(masked, render_table(globals()[name], width, verbosity=verbosity))) + "\n"


def masked(line: str) -> str:
    if _ROW.match(line):
        return re.sub(r"(at most |at least |[<>]=)\d+\.\d%", r"\1#%", line)
    return re.sub(r"\b\d[\d,.]*\b(?!(:1)? needed)", "#", line) if _EXPLAINED.match(line) else line


PASSING_80 = """\
        metric       current     target      change       proven
tests/perf/test_chat.py::test_short_answer  (1 request, 38 tokens in, 64 out)
  pass  tokens/s     84.9 tok/s  >=60 tok/s  no change    at most #% slower
  pass  first token  412 ms      <=500 ms    0.7% faster  at most #% slower
  pass  end to end   1.84 s      -           0.5% faster  at most #% slower

1 test, 3 checks: 3 pass; 58 s of measuring, 90% inside generation
compared with 1 stored session of 1x-rtx-4090-24gib_cuda; tolerance 5%
-v shows intervals, evidence and the metrics that are not gated
"""

PASSING_120 = """\
        metric       current     target      change       proven
tests/perf/test_chat.py::test_short_answer  (1 request, 38 tokens in, 64 out)
  pass  tokens/s     84.9 tok/s  >=60 tok/s  no change    at most #% slower
  pass  first token  412 ms      <=500 ms    0.7% faster  at most #% slower
  pass  end to end   1.84 s      -           0.5% faster  at most #% slower

1 test, 3 checks: 3 pass; 58 s of measuring, 90% inside generation
compared with 1 stored session of 1x-rtx-4090-24gib_cuda; tolerance 5%
-v shows intervals, evidence and the metrics that are not gated
"""

PASSING_80_V = """\
1x-rtx-4090-24gib_cuda, SmolLM2-135M-Instruct Q4_1, llama_cpp 0.3.36
5 processes x 3 iterations of each test, seed 7; median [95% interval]

verdict  metric       current                  change

tests/perf/test_chat.py::test_short_answer
    (1 request, 38 tokens in, 64 out; 5 processes)
pass     tokens/s     84.9 [84.2, 85.6] tok/s  no change
         target >=60 tok/s  baseline 84.9 tok/s over 10 sessions
-        prefill      301 [300, 302] tok/s     0.2% faster
         baseline 300 tok/s over 10 sessions
pass     first token  412 [410, 414] ms        0.7% faster
         target <=500 ms  baseline 415 ms over 10 sessions
pass     end to end   1.84 [1.83, 1.85] s      0.5% faster
         baseline 1.85 s over 10 sessions
  tokens/s: no change [#% faster to #% slower], at most #% slower
  first token: #% faster [#% faster to #% slower], at most #% slower
  end to end: #% faster [#% faster to #% slower], at most #% slower
  targets met: evidence #:# (tokens/s), #:# (first token); 20:1 needed
  # stored sessions can decide: tokens/s passes up to #% slower, regressed
    from #% slower; first token passes up to #% slower, regressed from #%
    slower; end to end passes up to #% slower, regressed from #% slower

tolerance 5%

1 test, 3 checks: 3 pass
58 s of measuring, 90% inside generation
chance of a false regressed verdict: at most 1% per session (perf.false_alarms)
baseline:
    perf_baselines/1x-rtx-4090-24gib_cuda/20261101T101500Z_628fedd01234.json
"""

PASSING_120_V = """\
1x-rtx-4090-24gib_cuda, SmolLM2-135M-Instruct Q4_1, llama_cpp 0.3.36
5 processes x 3 iterations of each test, seed 7; median [95% interval]

verdict   metric        current                   target       baseline                                   change

tests/perf/test_chat.py::test_short_answer  (1 request, 38 tokens in, 64 out; 5 processes)
pass      tokens/s      84.9 [84.2, 85.6] tok/s   >=60 tok/s   84.9 [84.7, 85.1] tok/s over 10 sessions   no change
-         prefill       301 [300, 302] tok/s      -            300 [300, 301] tok/s over 10 sessions      0.2% faster
pass      first token   412 [410, 414] ms         <=500 ms     415 [411, 419] ms over 10 sessions         0.7% faster
pass      end to end    1.84 [1.83, 1.85] s       -            1.85 [1.84, 1.86] s over 10 sessions       0.5% faster
  tokens/s: no change [#% faster to #% slower], at most #% slower
  first token: #% faster [#% faster to #% slower], at most #% slower
  end to end: #% faster [#% faster to #% slower], at most #% slower
  targets met: evidence #:# (tokens/s), #:# (first token); 20:1 needed
  # stored sessions can decide: tokens/s passes up to #% slower, regressed from #% slower; first token passes up to
    #% slower, regressed from #% slower; end to end passes up to #% slower, regressed from #% slower

tolerance 5%

1 test, 3 checks: 3 pass
58 s of measuring, 90% inside generation
chance of a false regressed verdict: at most 1% per session (perf.false_alarms)
baseline: perf_baselines/1x-rtx-4090-24gib_cuda/20261101T101500Z_628fedd01234.json
"""

FIRST_RUN_80 = """\
               metric       current     target      proven
tests/perf/test_new.py::TestLong::test_long_prompt[n_ctx-4096]
  no baseline  tokens/s     84.9 tok/s  >=60 tok/s  target met
  no baseline  first token  412 ms      -

1 test, 2 checks: 2 no baseline; 58 s of measuring, 90% inside generation
no baseline for 1 test: no session recorded on this machine contains this test
to record a baseline: pytest -m perf --llmperf-record
-v shows intervals, evidence and the metrics that are not gated
"""

REGRESSED_80 = """\
what the machine did while measuring:
  - process 4242 (stress) used 1.9 of 2 cores

               metric       current     target      change        proven
tests/perf/test_chat.py::test_short_answer
  regressed    tokens/s     65.3 tok/s  >=60 tok/s  30.0% slower
  -            prefill      301 tok/s   -           0.2% faster
  regressed    first token  536 ms      <=500 ms    29.1% slower
  regressed    end to end   2.39 s      -           29.3% slower
  regressed tokens/s: #% slower [#% to #%], more than sessions differ
    (by chance once in over a million; at most once in # required)
  regressed first token: #% slower [#% to #%], more than sessions
    differ (by chance once in over a million; at most once in # required)
    also missed: target missed by #%: # ms, must be at most # ms; evidence
      #:#
  regressed end to end: #% slower [#% to #%], more than sessions differ
    (by chance once in over a million; at most once in # required)
  # stored sessions can decide: tokens/s passes up to #% slower, regressed
    from #% slower; first token passes up to #% slower, regressed from #%
    slower; end to end passes up to #% slower, regressed from #% slower
  - likely cause: llm.n_batch: 512, was 1024
  - 2 stalls: iterations over 1.25 times their process's median

tests/perf/test_new.py::TestLong::test_long_prompt[n_ctx-4096]
  no baseline  tokens/s     84.9 tok/s  >=60 tok/s  -             target met
  no baseline  first token  412 ms      -           -
tests/perf/test_chat.py::test_another_answer
  pass         tokens/s     84.9 tok/s  >=60 tok/s  no change     <=#% slower
  pass         first token  412 ms      <=500 ms    0.7% faster   <=#% slower
  pass         end to end   1.84 s      -           0.5% faster   <=#% slower

3 tests, 8 checks: 3 regressed, 2 no baseline, 3 pass
58 s of measuring, 90% inside generation
compared with 10 stored sessions of 1x-rtx-4090-24gib_cuda; tolerance 5%
chance of a false regressed verdict: at most 1% per session (perf.false_alarms)
differs from the baseline: llm.n_batch: 512, was 1024
no baseline for 1 test: no session recorded on this machine contains this test
to record a baseline: pytest -m perf --llmperf-record
-v shows intervals, evidence and the metrics that are not gated
"""

REGRESSED_80_V = """\
what the machine did while measuring:
  - process 4242 (stress) used 1.9 of 2 cores

1x-rtx-4090-24gib_cuda, SmolLM2-135M-Instruct Q4_1, llama_cpp 0.3.36
3 to 5 processes x 3 iterations of each test, seed 7; median [95% interval]

verdict      metric       current                  change

tests/perf/test_chat.py::test_short_answer
    (1 request, 38 tokens in, 64 out; 5 processes)
regressed    tokens/s     65.3 [64.8, 65.8] tok/s  30.0% slower
             target >=60 tok/s  baseline 84.9 tok/s over 10 sessions
-            prefill      301 [300, 302] tok/s     0.2% faster
             baseline 300 tok/s over 10 sessions
regressed    first token  536 [533, 538] ms        29.1% slower
             target <=500 ms  baseline 415 ms over 10 sessions
regressed    end to end   2.39 [2.38, 2.40] s      29.3% slower
             baseline 1.85 s over 10 sessions
  regressed tokens/s: #% slower [#% to #%], more than sessions differ
    (by chance once in over a million; at most once in # required)
  regressed first token: #% slower [#% to #%], more than sessions
    differ (by chance once in over a million; at most once in # required)
    also missed: target missed by #%: # ms, must be at most # ms; evidence
      #:#
  regressed end to end: #% slower [#% to #%], more than sessions differ
    (by chance once in over a million; at most once in # required)
  # stored sessions can decide: tokens/s passes up to #% slower, regressed
    from #% slower; first token passes up to #% slower, regressed from #%
    slower; end to end passes up to #% slower, regressed from #% slower
  - likely cause: llm.n_batch: 512, was 1024
  - 2 stalls: iterations over 1.25 times their process's median

tests/perf/test_new.py::TestLong::test_long_prompt[n_ctx-4096]
    (2 requests, 1,400 tokens in, 64 out; 3 processes)
no baseline  tokens/s     84.9 [83.1, 86.8] tok/s
             target >=60 tok/s
-            prefill      301 [299, 303] tok/s
no baseline  first token  412 [407, 417] ms
  target met: evidence #:# (tokens/s); 20:1 needed

tests/perf/test_chat.py::test_another_answer
    (1 request, 38 tokens in, 64 out; 5 processes)
pass         tokens/s     84.9 [84.2, 85.6] tok/s  no change
             target >=60 tok/s  baseline 84.9 tok/s over 10 sessions
-            prefill      301 [300, 302] tok/s     0.2% faster
             baseline 300 tok/s over 10 sessions
pass         first token  412 [410, 414] ms        0.7% faster
             target <=500 ms  baseline 415 ms over 10 sessions
pass         end to end   1.84 [1.83, 1.85] s      0.5% faster
             baseline 1.85 s over 10 sessions
  tokens/s: no change [#% faster to #% slower], at most #% slower
  first token: #% faster [#% faster to #% slower], at most #% slower
  end to end: #% faster [#% faster to #% slower], at most #% slower
  targets met: evidence #:# (tokens/s), #:# (first token); 20:1 needed
  # stored sessions can decide: tokens/s passes up to #% slower, regressed
    from #% slower; first token passes up to #% slower, regressed from #%
    slower; end to end passes up to #% slower, regressed from #% slower

tolerance 5%

3 tests, 8 checks: 3 regressed, 2 no baseline, 3 pass
58 s of measuring, 90% inside generation
chance of a false regressed verdict: at most 1% per session (perf.false_alarms)
baseline: 10 sessions in perf_baselines/1x-rtx-4090-24gib_cuda,
    20261101T101500Z_628fedd01234.json to 20261110T101500Z_abc.json
differs from the baseline: llm.n_batch: 512, was 1024
no baseline for 1 test: no session recorded on this machine contains this test
to record a baseline: pytest -m perf --llmperf-record
"""

REGRESSED_120_V = """\
what the machine did while measuring:
  - process 4242 (stress) used 1.9 of 2 cores

1x-rtx-4090-24gib_cuda, SmolLM2-135M-Instruct Q4_1, llama_cpp 0.3.36
3 to 5 processes x 3 iterations of each test, seed 7; median [95% interval]

verdict      metric       current                  target      baseline                                  change

tests/perf/test_chat.py::test_short_answer  (1 request, 38 tokens in, 64 out; 5 processes)
regressed    tokens/s     65.3 [64.8, 65.8] tok/s  >=60 tok/s  84.9 [84.7, 85.1] tok/s over 10 sessions  30.0% slower
-            prefill      301 [300, 302] tok/s     -           300 [300, 301] tok/s over 10 sessions     0.2% faster
regressed    first token  536 [533, 538] ms        <=500 ms    415 [411, 419] ms over 10 sessions        29.1% slower
regressed    end to end   2.39 [2.38, 2.40] s      -           1.85 [1.84, 1.86] s over 10 sessions      29.3% slower
  regressed tokens/s: #% slower [#% to #%], more than sessions differ (by chance once in over a million; at
    most once in # required)
  regressed first token: #% slower [#% to #%], more than sessions differ (by chance once in over a million; at
    most once in # required)
    also missed: target missed by #%: # ms, must be at most # ms; evidence #:#
  regressed end to end: #% slower [#% to #%], more than sessions differ (by chance once in over a million; at
    most once in # required)
  # stored sessions can decide: tokens/s passes up to #% slower, regressed from #% slower; first token passes up to
    #% slower, regressed from #% slower; end to end passes up to #% slower, regressed from #% slower
  - likely cause: llm.n_batch: 512, was 1024
  - 2 stalls: iterations over 1.25 times their process's median

tests/perf/test_new.py::TestLong::test_long_prompt[n_ctx-4096]  (2 requests, 1,400 tokens in, 64 out; 3 processes)
no baseline  tokens/s     84.9 [83.1, 86.8] tok/s  >=60 tok/s  -                                         -
-            prefill      301 [299, 303] tok/s     -           -                                         -
no baseline  first token  412 [407, 417] ms        -           -                                         -
  target met: evidence #:# (tokens/s); 20:1 needed

tests/perf/test_chat.py::test_another_answer  (1 request, 38 tokens in, 64 out; 5 processes)
pass         tokens/s     84.9 [84.2, 85.6] tok/s  >=60 tok/s  84.9 [84.7, 85.1] tok/s over 10 sessions  no change
-            prefill      301 [300, 302] tok/s     -           300 [300, 301] tok/s over 10 sessions     0.2% faster
pass         first token  412 [410, 414] ms        <=500 ms    415 [411, 419] ms over 10 sessions        0.7% faster
pass         end to end   1.84 [1.83, 1.85] s      -           1.85 [1.84, 1.86] s over 10 sessions      0.5% faster
  tokens/s: no change [#% faster to #% slower], at most #% slower
  first token: #% faster [#% faster to #% slower], at most #% slower
  end to end: #% faster [#% faster to #% slower], at most #% slower
  targets met: evidence #:# (tokens/s), #:# (first token); 20:1 needed
  # stored sessions can decide: tokens/s passes up to #% slower, regressed from #% slower; first token passes up to
    #% slower, regressed from #% slower; end to end passes up to #% slower, regressed from #% slower

tolerance 5%

3 tests, 8 checks: 3 regressed, 2 no baseline, 3 pass
58 s of measuring, 90% inside generation
chance of a false regressed verdict: at most 1% per session (perf.false_alarms)
baseline: 10 sessions in perf_baselines/1x-rtx-4090-24gib_cuda, 20261101T101500Z_628fedd01234.json to
    20261110T101500Z_abc.json
differs from the baseline: llm.n_batch: 512, was 1024
no baseline for 1 test: no session recorded on this machine contains this test
to record a baseline: pytest -m perf --llmperf-record
"""

REGRESSED_80_Q = """\
what the machine did while measuring:
  - process 4242 (stress) used 1.9 of 2 cores

             metric       current     target      change
tests/perf/test_chat.py::test_short_answer  (1 request, 38 tokens in, 64 out)
  regressed  tokens/s     65.3 tok/s  >=60 tok/s  30.0% slower
  -          prefill      301 tok/s   -           0.2% faster
  regressed  first token  536 ms      <=500 ms    29.1% slower
  regressed  end to end   2.39 s      -           29.3% slower
  regressed tokens/s: #% slower [#% to #%], more than sessions differ
    (by chance once in over a million; at most once in # required)
  regressed first token: #% slower [#% to #%], more than sessions
    differ (by chance once in over a million; at most once in # required)
    also missed: target missed by #%: # ms, must be at most # ms; evidence
      #:#
  regressed end to end: #% slower [#% to #%], more than sessions differ
    (by chance once in over a million; at most once in # required)
  # stored sessions can decide: tokens/s passes up to #% slower, regressed
    from #% slower; first token passes up to #% slower, regressed from #%
    slower; end to end passes up to #% slower, regressed from #% slower
  - likely cause: llm.n_batch: 512, was 1024
  - 2 stalls: iterations over 1.25 times their process's median

3 tests, 8 checks: 3 regressed, 2 no baseline, 3 pass
chance of a false regressed verdict: at most 1% per session (perf.false_alarms)
differs from the baseline: llm.n_batch: 512, was 1024
no baseline for 1 test: no session recorded on this machine contains this test
to record a baseline: pytest -m perf --llmperf-record
"""

COMPARED_80 = """\
compared with other.yaml, both run interleaved in this session
  llm.flash_attn: base false, candidate true

        metric       current     target      change     proven
tests/perf/test_chat.py::test_short_answer  (1 request, 38 tokens in, 64 out)
  pass  tokens/s     85.0 tok/s  >=60 tok/s  no change  at most #% slower
  pass  first token  410 ms      -           no change  at most #% slower
  pass  end to end   1.84 s      -           no change  at most #% slower

1 test, 3 checks: 3 pass; 58 s of measuring, 90% inside generation
tolerance 5%
-v shows intervals, evidence and the metrics that are not gated
"""

COMPARED_120_V = """\
1x-rtx-4090-24gib_cuda, SmolLM2-135M-Instruct Q4_1, llama_cpp 0.3.36
7 pairs of processes x at least 3 iterations of each test, seed 7; median [95% interval]
compared with other.yaml, both run interleaved in this session
  llm.flash_attn: base false, candidate true

verdict   metric        current                   target       base                      change

tests/perf/test_chat.py::test_short_answer  (1 request, 38 tokens in, 64 out; 7 pairs)
pass      tokens/s      85.0 [84.5, 85.5] tok/s   >=60 tok/s   85.0 [84.8, 85.2] tok/s   no change
pass      first token   410 [409, 411] ms         -            410 [409, 411] ms         no change
pass      end to end    1.84 [1.83, 1.85] s       -            1.840 [1.836, 1.844] s    no change
  tokens/s: no change [#% faster to #% slower], at most #% slower; evidence #:#
  first token and end to end: no change [#% faster to #% slower], at most #% slower; evidence #:#
  target met: evidence # million:# (tokens/s); 20:1 needed

20:1 needed to pass; tolerance 5%

1 test, 3 checks: 3 pass
58 s of measuring, 90% inside generation
chance of a false regressed verdict: at most 1% per session (perf.false_alarms)
"""

SUSPECT_80 = """\
                metric       current     target      change
tests/perf/test_chat.py::test_short_answer  (1 request, 38 tokens in, 64 out)
  inconclusive  tokens/s     84.9 tok/s  >=60 tok/s  0.4% slower
  -             prefill      301 tok/s   -           0.3% faster
  inconclusive  first token  412 ms      <=500 ms    0.5% slower
  inconclusive  end to end   1.84 s      -           no change
  inconclusive tokens/s: #% slower [#% faster to #% slower], but # stored
    session can't prove a pass
  inconclusive first token: #% slower [#% faster to #% slower], but #
    stored session can't prove a pass
  inconclusive end to end: no change [#% faster to #% slower], but # stored
    session can't prove a pass
  # stored session can decide: passes only from #% faster, regressed from
    #% slower

1 test, 3 checks: 3 inconclusive; 58 s of measuring, 90% inside generation
compared with 1 stored session of 1x-rtx-4090-24gib_cuda; tolerance 5%
3 inconclusive checks passed with a warning; --llmperf-strict fails them
stored sessions alone don't decide 3 suspect checks. To decide them:
  - record about 3 more sessions: enough if similar to the stored ones
  - where a configuration changed, the old and the new one in one session:
    pytest -m perf --llmperf-against-config OTHER.yaml
-v shows intervals, evidence and the metrics that are not gated
"""

LONG_IDS_80 = """\
        metric       current     target      change       proven
tests/perf/chat/test_conversations.py::TestLongConversations::
    test_the_whole_conversation[n_ctx-2048-with-a-very-long-parameter]
  pass  tokens/s     84.9 tok/s  >=60 tok/s  no change    at most #% slower
  pass  first token  412 ms      <=500 ms    0.7% faster  at most #% slower
  pass  end to end   1.84 s      -           0.5% faster  at most #% slower
tests/perf/chat/test_conversations.py::TestLongConversations::
    test_the_whole_conversation[n_ctx-4096-with-a-very-long-parameter]
  pass  tokens/s     84.9 tok/s  >=60 tok/s  no change    at most #% slower
  pass  first token  412 ms      <=500 ms    0.7% faster  at most #% slower
  pass  end to end   1.84 s      -           0.5% faster  at most #% slower

2 tests, 6 checks: 6 pass; 58 s of measuring, 90% inside generation
compared with 1 stored session of 1x-rtx-4090-24gib_cuda; tolerance 5%
-v shows intervals, evidence and the metrics that are not gated
"""


@pytest.mark.parametrize(
    ("name", "width", "verbosity", "expected"),
    [
        ("PASSING", 80, 0, PASSING_80),
        ("PASSING", 120, 0, PASSING_120),
        ("PASSING", 80, 1, PASSING_80_V),
        ("PASSING", 120, 1, PASSING_120_V),
        ("FIRST_RUN", 80, 0, FIRST_RUN_80),
        ("REGRESSED", 80, 0, REGRESSED_80),
        ("REGRESSED", 80, 1, REGRESSED_80_V),
        ("REGRESSED", 120, 1, REGRESSED_120_V),
        ("REGRESSED", 80, -1, REGRESSED_80_Q),
        ("COMPARED", 80, 0, COMPARED_80),
        ("COMPARED", 120, 1, COMPARED_120_V),
        ("SUSPECT", 80, 0, SUSPECT_80),
        ("LONG_IDS", 80, 0, LONG_IDS_80),
    ],
)
def test_the_whole_table(name: str, width: int, verbosity: int, expected: str) -> None:
    assert rendered(name, width, verbosity) == expected


@pytest.mark.parametrize("verbosity", [-1, 0, 1])
@pytest.mark.parametrize("width", [40, 80, 120])
@pytest.mark.parametrize("name", ["REGRESSED", "SUSPECT", "LONG_IDS"])
def test_no_line_is_wider_than_the_terminal(name: str, width: int, verbosity: int) -> None:
    lines = render_table(globals()[name], width, verbosity=verbosity)
    # Words that can't be broken: a path, and a command to copy.
    whole = (FOLDER, "pytest -m perf")
    assert [x for x in lines if display_width(x) > width and not any(w in x for w in whole)] == []
