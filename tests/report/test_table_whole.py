# ruff: noqa: E501
"""The table as a user sees it, whole, at 80 and at 120 columns.

What the gate's mathematics finds is its own tests' matter: in the lines that explain
verdicts every number is a ``#``.
"""

from __future__ import annotations

import re

import pytest
from report_sessions import FOLDER, SOURCE, compared, new_test, session, short_answer

from pytest_llmperf.report.table import render_table

PASSING = session(short_answer(), baseline_sources=(SOURCE,))
FIRST_RUN = session(new_test())
REGRESSED = session(
    short_answer(
        1.3,
        findings=("2 stalls: iterations over 1.25 times their process's median",),
        differences=("llm.n_batch: 512, was 1024",),
    ),
    new_test(),
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


def drawn(name: str, width: int) -> str:
    """The table, the numbers of its explanations masked."""
    lines = render_table(globals()[name], width)
    explained = re.compile(r"  .*(%|:1|needed|slower|once in)")
    masked = (re.sub(r"\d[\d,.]*", "#", x) if explained.match(x) else x for x in lines)
    return "\n".join(masked) + "\n"


PASSING_80 = """\
1x-rtx-4090-24gib_cuda, SmolLM2-135M-Instruct Q4_1, llama_cpp 0.3.36
5 processes x 3 iterations of each test, seed 7; median [95% interval]

verdict  metric       current                  target      baseline    change

tests/perf/test_chat.py::test_short_answer
    (1 request, 38 tokens in, 64 out; 5 processes)
pass     tokens/s     84.9 [84.2, 85.6] tok/s  >=60 tok/s  84.9 tok/s  0.0%
-        prefill      301 [300, 302] tok/s     -           300 tok/s   -0.2%
pass     first token  412 [410, 414] ms        <=500 ms    415 ms      -0.7%
pass     end to end   1.84 [1.83, 1.85] s      -           1.85 s      -0.5%
  tokens/s: no change [-#%, +#%], at most #% slower
  first token: #% faster [-#%, +#%], at most #% slower
  end to end: #% faster [-#%, +#%], at most #% slower
  targets met: evidence #:# (tokens/s), #:# (first token); #:# needed
  # stored sessions can decide (passes up to, regressed from): tokens/s +#%,
    +#%; first token +#%, +#%; end to end +#%, +#%

changes: + slower, - faster than the baseline; tolerance 5%

1 test, 3 checks: 3 pass
58 s of measuring, 90% of it inside generation
chance of any false regressed in this session: 1% at most (perf.false_alarms)
baseline:
    perf_baselines/1x-rtx-4090-24gib_cuda/20261101T101500Z_628fedd01234.json
"""

PASSING_120 = """\
1x-rtx-4090-24gib_cuda, SmolLM2-135M-Instruct Q4_1, llama_cpp 0.3.36
5 processes x 3 iterations of each test, seed 7; median [95% interval]

verdict   metric        current                   target       baseline                                   change

tests/perf/test_chat.py::test_short_answer  (1 request, 38 tokens in, 64 out; 5 processes)
pass      tokens/s      84.9 [84.2, 85.6] tok/s   >=60 tok/s   84.9 [84.7, 85.1] tok/s over 10 sessions   no change
-         prefill       301 [300, 302] tok/s      -            300 [300, 301] tok/s over 10 sessions      0.2% faster
pass      first token   412 [410, 414] ms         <=500 ms     415 [411, 419] ms over 10 sessions         0.7% faster
pass      end to end    1.84 [1.83, 1.85] s       -            1.85 [1.84, 1.86] s over 10 sessions       0.5% faster
  tokens/s: no change [-#%, +#%], at most #% slower
  first token: #% faster [-#%, +#%], at most #% slower
  end to end: #% faster [-#%, +#%], at most #% slower
  targets met: evidence #:# (tokens/s), #:# (first token); #:# needed
  # stored sessions can decide (passes up to, regressed from): tokens/s +#%, +#%; first token +#%, +#%; end to
    end +#%, +#%

changes: + slower, - faster than the baseline; tolerance 5%

1 test, 3 checks: 3 pass
58 s of measuring, 90% of it inside generation
chance of any false regressed in this session: 1% at most (perf.false_alarms)
baseline: perf_baselines/1x-rtx-4090-24gib_cuda/20261101T101500Z_628fedd01234.json
"""

FIRST_RUN_80 = """\
1x-rtx-4090-24gib_cuda, SmolLM2-135M-Instruct Q4_1, llama_cpp 0.3.36
3 processes x 3 iterations of each test, seed 7; median [95% interval]

verdict      metric       current                  target      baseline  change

tests/perf/test_new.py::TestLong::test_long_prompt[n_ctx-4096]
    (2 requests, 1,400 tokens in, 64 out; 3 processes)
no baseline  tokens/s     84.9 [83.1, 86.8] tok/s  >=60 tok/s  -         -
-            prefill      301 [299, 303] tok/s     -           -         -
no baseline  first token  412 [407, 417] ms        -           -         -
  target met: evidence #:# (tokens/s); #:# needed

1 test, 2 checks: 2 no baseline
58 s of measuring, 90% of it inside generation
no baseline for 1 test: no earlier session on this machine holds this test
record a baseline with:
    pytest -m perf --llmperf-record
"""

REGRESSED_80 = """\
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
  regressed tokens/s: #% slower [+#%, +#%], more than sessions differ
    (by chance once in over a million; at most once in # required)
  regressed first token: #% slower [+#%, +#%], more than sessions
    differ (by chance once in over a million; at most once in # required)
    also missed: target missed by #%: # ms, must be at most # ms; evidence
      #:#
  regressed end to end: #% slower [+#%, +#%], more than sessions differ
    (by chance once in over a million; at most once in # required)
  # stored sessions can decide (passes up to, regressed from): tokens/s +#%,
    +#%; first token +#%, +#%; end to end +#%, +#%
  - 2 stalls: iterations over 1.25 times their process's median

tests/perf/test_new.py::TestLong::test_long_prompt[n_ctx-4096]
    (2 requests, 1,400 tokens in, 64 out; 3 processes)
no baseline  tokens/s     84.9 [83.1, 86.8] tok/s
             target >=60 tok/s
-            prefill      301 [299, 303] tok/s
no baseline  first token  412 [407, 417] ms
  target met: evidence #:# (tokens/s); #:# needed

changes: + slower, - faster than the baseline; tolerance 5%

2 tests, 5 checks: 3 regressed, 2 no baseline
58 s of measuring, 90% of it inside generation
chance of any false regressed in this session: 1% at most (perf.false_alarms)
baseline: 10 sessions in perf_baselines/1x-rtx-4090-24gib_cuda,
    20261101T101500Z_628fedd01234.json to 20261110T101500Z_abc.json
differs from the baseline: llm.n_batch: 512, was 1024
no baseline for 1 test: no earlier session on this machine holds this test
record a baseline with:
    pytest -m perf --llmperf-record
"""

REGRESSED_120 = """\
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
  regressed tokens/s: #% slower [+#%, +#%], more than sessions differ (by chance once in over a million; at
    most once in # required)
  regressed first token: #% slower [+#%, +#%], more than sessions differ (by chance once in over a million; at
    most once in # required)
    also missed: target missed by #%: # ms, must be at most # ms; evidence #:#
  regressed end to end: #% slower [+#%, +#%], more than sessions differ (by chance once in over a million; at
    most once in # required)
  # stored sessions can decide (passes up to, regressed from): tokens/s +#%, +#%; first token +#%, +#%; end to
    end +#%, +#%
  - 2 stalls: iterations over 1.25 times their process's median

tests/perf/test_new.py::TestLong::test_long_prompt[n_ctx-4096]  (2 requests, 1,400 tokens in, 64 out; 3 processes)
no baseline  tokens/s     84.9 [83.1, 86.8] tok/s  >=60 tok/s  -                                         -
-            prefill      301 [299, 303] tok/s     -           -                                         -
no baseline  first token  412 [407, 417] ms        -           -                                         -
  target met: evidence #:# (tokens/s); #:# needed

changes: + slower, - faster than the baseline; tolerance 5%

2 tests, 5 checks: 3 regressed, 2 no baseline
58 s of measuring, 90% of it inside generation
chance of any false regressed in this session: 1% at most (perf.false_alarms)
baseline: 10 sessions in perf_baselines/1x-rtx-4090-24gib_cuda, 20261101T101500Z_628fedd01234.json to
    20261110T101500Z_abc.json
differs from the baseline: llm.n_batch: 512, was 1024
no baseline for 1 test: no earlier session on this machine holds this test
record a baseline with:
    pytest -m perf --llmperf-record
"""

COMPARED_80 = """\
1x-rtx-4090-24gib_cuda, SmolLM2-135M-Instruct Q4_1, llama_cpp 0.3.36
7 pairs of processes x 3 iterations of each test, seed 7; median [95% interval]
compared with other.yaml, both run interleaved in this session
  llm.flash_attn: base false, candidate true

verdict  metric       current                  target      base        change

tests/perf/test_chat.py::test_short_answer
    (1 request, 38 tokens in, 64 out; 7 pairs)
pass     tokens/s     85.0 [84.5, 85.5] tok/s  >=60 tok/s  85.0 tok/s  no change
pass     first token  410 [409, 411] ms        -           410 ms      no change
pass     end to end   1.84 [1.83, 1.85] s      -           1.84 s      no change
  tokens/s: no change [-#%, +#%], at most #% slower; evidence #:#
  first token and end to end: no change [-#%, +#%], at most #% slower;
    evidence #:#
  target met: evidence # million:# (tokens/s); #:# needed

changes: + slower, - faster than the base; 20:1 needed to pass; tolerance 5%

1 test, 3 checks: 3 pass
58 s of measuring, 90% of it inside generation
chance of any false regressed in this session: 1% at most (perf.false_alarms)
"""

COMPARED_120 = """\
1x-rtx-4090-24gib_cuda, SmolLM2-135M-Instruct Q4_1, llama_cpp 0.3.36
7 pairs of processes x 3 iterations of each test, seed 7; median [95% interval]
compared with other.yaml, both run interleaved in this session
  llm.flash_attn: base false, candidate true

verdict   metric        current                   target       base                      change

tests/perf/test_chat.py::test_short_answer  (1 request, 38 tokens in, 64 out; 7 pairs)
pass      tokens/s      85.0 [84.5, 85.5] tok/s   >=60 tok/s   85.0 [84.8, 85.2] tok/s   no change
pass      first token   410 [409, 411] ms         -            410 [409, 411] ms         no change
pass      end to end    1.84 [1.83, 1.85] s       -            1.840 [1.836, 1.844] s    no change
  tokens/s: no change [-#%, +#%], at most #% slower; evidence #:#
  first token and end to end: no change [-#%, +#%], at most #% slower; evidence #:#
  target met: evidence # million:# (tokens/s); #:# needed

changes: + slower, - faster than the base; 20:1 needed to pass; tolerance 5%

1 test, 3 checks: 3 pass
58 s of measuring, 90% of it inside generation
chance of any false regressed in this session: 1% at most (perf.false_alarms)
"""

SUSPECT_80 = """\
1x-rtx-4090-24gib_cuda, SmolLM2-135M-Instruct Q4_1, llama_cpp 0.3.36
5 processes x 3 iterations of each test, seed 7; median [95% interval]

verdict       metric       current                  change

tests/perf/test_chat.py::test_short_answer
    (1 request, 38 tokens in, 64 out; 5 processes)
inconclusive  tokens/s     84.9 [84.2, 85.6] tok/s  0.4% slower
              target >=60 tok/s  baseline 85.2 tok/s over 1 session
-             prefill      301 [300, 302] tok/s     0.3% faster
              baseline 300 tok/s over 1 session
inconclusive  first token  412 [410, 414] ms        0.5% slower
              target <=500 ms  baseline 410 ms over 1 session
inconclusive  end to end   1.84 [1.83, 1.85] s      no change
              baseline 1.84 s over 1 session
  inconclusive tokens/s: #% slower [-#%, +#%], suspect: within what
    sessions may differ
  inconclusive first token: #% slower [-#%, +#%], suspect: within what
    sessions may differ
  inconclusive end to end: no change [-#%, +#%], suspect: within what
    sessions may differ
  # stored session can decide: passes only from #% faster, regressed from
    #% slower

changes: + slower, - faster than the baseline; tolerance 5%

1 test, 3 checks: 3 inconclusive
58 s of measuring, 90% of it inside generation
chance of any false regressed in this session: 1% at most (perf.false_alarms)
3 inconclusive checks passed with a warning; --llmperf-strict fails them
stored sessions alone don't decide 3 suspect checks; what would:
  - about 3 more recorded sessions would, if alike
  - where a configuration changed, the old and the new one in one session:
    pytest -m perf --llmperf-against-config OTHER.yaml
baseline:
    perf_baselines/1x-rtx-4090-24gib_cuda/20261101T101500Z_628fedd01234.json
"""


@pytest.mark.parametrize(
    ("name", "width", "expected"),
    [
        ("PASSING", 80, PASSING_80),
        ("PASSING", 120, PASSING_120),
        ("FIRST_RUN", 80, FIRST_RUN_80),
        ("REGRESSED", 80, REGRESSED_80),
        ("REGRESSED", 120, REGRESSED_120),
        ("COMPARED", 80, COMPARED_80),
        ("COMPARED", 120, COMPARED_120),
        ("SUSPECT", 80, SUSPECT_80),
    ],
)
def test_the_whole_table(name: str, width: int, expected: str) -> None:
    assert drawn(name, width) == expected
