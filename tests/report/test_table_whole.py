# ruff: noqa: E501
"""The table as a user sees it, whole, at 80 and at 120 columns."""

from __future__ import annotations

import pytest
from report_sessions import SOURCE, new_test, session, short_answer

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
    baseline_sources=(SOURCE,),
)

PASSING_80 = """\
1x-rtx-4090-24gib_cuda, SmolLM2-135M-Instruct Q4_1, llama_cpp 0.3.36
3 processes x 3 iterations of each test, order seed 7; median [95% interval]

verdict  metric       current                  target      baseline    change

tests/perf/test_chat.py::test_short_answer  (1 request, 38 tokens in, 64 out)
pass     tokens/s     84.9 [83.1, 86.8] tok/s  >=60 tok/s  84.9 tok/s  0.0%
-        prefill      301 [299, 303] tok/s     -           300 tok/s   -0.2%
pass     first token  412 [407, 417] ms        <=500 ms    415 ms      -0.7%
pass     end to end   1.84 [1.82, 1.87] s      <=5 s       1.85 s      -0.5%

change: + is slower than the baseline, - is faster

1 test, 3 checks: 3 pass
58 s of measuring, 90% of it inside generation
baseline:
    perf_baselines/1x-rtx-4090-24gib_cuda/20261101T101500Z_628fedd01234.json
"""

PASSING_120 = """\
1x-rtx-4090-24gib_cuda, SmolLM2-135M-Instruct Q4_1, llama_cpp 0.3.36
3 processes x 3 iterations of each test, order seed 7; median [95% interval]

verdict   metric        current                   target       baseline                                  change

tests/perf/test_chat.py::test_short_answer  (1 request, 38 tokens in, 64 out)
pass      tokens/s      84.9 [83.1, 86.8] tok/s   >=60 tok/s   84.9 [81.2, 88.8] tok/s over 2 sessions   no change
-         prefill       301 [299, 303] tok/s      -            300 [294, 307] tok/s over 2 sessions      0.2% faster
pass      first token   412 [407, 417] ms         <=500 ms     415 [356, 484] ms over 2 sessions         0.7% faster
pass      end to end    1.84 [1.82, 1.87] s       <=5 s        1.85 [1.73, 1.98] s over 2 sessions       0.5% faster

1 test, 3 checks: 3 pass
58 s of measuring, 90% of it inside generation
baseline: perf_baselines/1x-rtx-4090-24gib_cuda/20261101T101500Z_628fedd01234.json
"""

FIRST_RUN_80 = """\
1x-rtx-4090-24gib_cuda, SmolLM2-135M-Instruct Q4_1, llama_cpp 0.3.36
3 processes x 3 iterations of each test, order seed 7; median [95% interval]

verdict      metric       current                  target      baseline  change

tests/perf/test_new.py::TestLong::test_long_prompt[n_ctx-4096]
    (2 requests, 1,400 tokens in, 64 out)
no baseline  tokens/s     84.9 [83.1, 86.8] tok/s  >=60 tok/s  -         -
-            prefill      301 [299, 303] tok/s     -           -         -
no baseline  first token  412 [407, 417] ms        -           -         -

1 test, 2 checks: 2 no baseline
58 s of measuring, 90% of it inside generation
no baseline for 1 test: no earlier session on this machine holds this test
record a baseline with:
    pytest -m perf --llmperf-record
"""

FIRST_RUN_120 = """\
1x-rtx-4090-24gib_cuda, SmolLM2-135M-Instruct Q4_1, llama_cpp 0.3.36
3 processes x 3 iterations of each test, order seed 7; median [95% interval]

verdict       metric        current                   target       baseline   change

tests/perf/test_new.py::TestLong::test_long_prompt[n_ctx-4096]  (2 requests, 1,400 tokens in, 64 out)
no baseline   tokens/s      84.9 [83.1, 86.8] tok/s   >=60 tok/s   -          -
-             prefill       301 [299, 303] tok/s      -            -          -
no baseline   first token   412 [407, 417] ms         -            -          -

1 test, 2 checks: 2 no baseline
58 s of measuring, 90% of it inside generation
no baseline for 1 test: no earlier session on this machine holds this test
record a baseline with:
    pytest -m perf --llmperf-record
"""

REGRESSED_80 = """\
the machine was busy while measuring:
  - process 4242 (stress) used 1.9 of 2 cores

1x-rtx-4090-24gib_cuda, SmolLM2-135M-Instruct Q4_1, llama_cpp 0.3.36
3 processes x 3 iterations of each test, order seed 7; median [95% interval]

verdict      metric       current                  change

tests/perf/test_chat.py::test_short_answer  (1 request, 38 tokens in, 64 out)
regressed    tokens/s     65.3 [63.9, 66.8] tok/s  30.0% slower
             target >=60 tok/s  baseline 84.9 tok/s over 2 sessions
-            prefill      301 [299, 303] tok/s     0.2% faster
             baseline 300 tok/s over 2 sessions
regressed    first token  536 [529, 542] ms        29.1% slower
             target <=500 ms  baseline 415 ms over 2 sessions
regressed    end to end   2.39 [2.36, 2.42] s      29.3% slower
             target <=5 s  baseline 1.85 s over 2 sessions
  regressed tokens/s: 30.0% slower than the baseline: 65.3 tok/s, was 84.9 tok/s
    over 2 sessions; tolerance 5%
  regressed first token: 29.1% slower than the baseline: 536 ms, was 415 ms over
    2 sessions; tolerance 5%
    also missed: target missed by 7.1%: 536 ms, must be at most 500 ms
  regressed end to end: 29.3% slower than the baseline: 2.39 s, was 1.85 s over
    2 sessions; tolerance 5%
  - 2 stalls: iterations over 1.25 times their process's median

tests/perf/test_new.py::TestLong::test_long_prompt[n_ctx-4096]
    (2 requests, 1,400 tokens in, 64 out)
no baseline  tokens/s     84.9 [83.1, 86.8] tok/s
             target >=60 tok/s
-            prefill      301 [299, 303] tok/s
no baseline  first token  412 [407, 417] ms

2 tests, 5 checks: 3 regressed, 2 no baseline
58 s of measuring, 90% of it inside generation
baseline:
    perf_baselines/1x-rtx-4090-24gib_cuda/20261101T101500Z_628fedd01234.json
differs from the baseline: llm.n_batch: 512, was 1024
no baseline for 1 test: no earlier session on this machine holds this test
record a baseline with:
    pytest -m perf --llmperf-record
"""

REGRESSED_120 = """\
the machine was busy while measuring:
  - process 4242 (stress) used 1.9 of 2 cores

1x-rtx-4090-24gib_cuda, SmolLM2-135M-Instruct Q4_1, llama_cpp 0.3.36
3 processes x 3 iterations of each test, order seed 7; median [95% interval]

verdict      metric       current                  target      baseline                                 change

tests/perf/test_chat.py::test_short_answer  (1 request, 38 tokens in, 64 out)
regressed    tokens/s     65.3 [63.9, 66.8] tok/s  >=60 tok/s  84.9 [81.2, 88.8] tok/s over 2 sessions  30.0% slower
-            prefill      301 [299, 303] tok/s     -           300 [294, 307] tok/s over 2 sessions     0.2% faster
regressed    first token  536 [529, 542] ms        <=500 ms    415 [356, 484] ms over 2 sessions        29.1% slower
regressed    end to end   2.39 [2.36, 2.42] s      <=5 s       1.85 [1.73, 1.98] s over 2 sessions      29.3% slower
  regressed tokens/s: 30.0% slower than the baseline: 65.3 tok/s, was 84.9 tok/s over 2 sessions; tolerance 5%
  regressed first token: 29.1% slower than the baseline: 536 ms, was 415 ms over 2 sessions; tolerance 5%
    also missed: target missed by 7.1%: 536 ms, must be at most 500 ms
  regressed end to end: 29.3% slower than the baseline: 2.39 s, was 1.85 s over 2 sessions; tolerance 5%
  - 2 stalls: iterations over 1.25 times their process's median

tests/perf/test_new.py::TestLong::test_long_prompt[n_ctx-4096]  (2 requests, 1,400 tokens in, 64 out)
no baseline  tokens/s     84.9 [83.1, 86.8] tok/s  >=60 tok/s  -                                        -
-            prefill      301 [299, 303] tok/s     -           -                                        -
no baseline  first token  412 [407, 417] ms        -           -                                        -

2 tests, 5 checks: 3 regressed, 2 no baseline
58 s of measuring, 90% of it inside generation
baseline: perf_baselines/1x-rtx-4090-24gib_cuda/20261101T101500Z_628fedd01234.json
differs from the baseline: llm.n_batch: 512, was 1024
no baseline for 1 test: no earlier session on this machine holds this test
record a baseline with:
    pytest -m perf --llmperf-record
"""


@pytest.mark.parametrize(
    ("name", "width", "expected"),
    [
        ("PASSING", 80, PASSING_80),
        ("PASSING", 120, PASSING_120),
        ("FIRST_RUN", 80, FIRST_RUN_80),
        ("FIRST_RUN", 120, FIRST_RUN_120),
        ("REGRESSED", 80, REGRESSED_80),
        ("REGRESSED", 120, REGRESSED_120),
    ],
)
def test_the_whole_table(name: str, width: int, expected: str) -> None:
    assert "\n".join(render_table(globals()[name], width)) + "\n" == expected
