"""Under what a stage was computed, as its record has it."""

import os
import platform
import subprocess
import sys
from datetime import UTC, datetime

import torch

from ragcun_cli.pipeline.machine import provenance

STARTED = datetime(2026, 1, 31, 12, tzinfo=UTC)


def test_a_record_says_command_machine_and_what_torch_computes_with(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    words = ["/usr/bin/ragcun", "train", "-w", f"{tmp_path}/my ws", "--set", "a=hf_abcdefgh"]
    monkeypatch.setattr(sys, "argv", words)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        torch.use_deterministic_algorithms(True)
        found = provenance.circumstances(STARTED)
    finally:
        torch.use_deterministic_algorithms(False)
        torch.set_num_threads(threads)
    assert found["command"] == "ragcun train -w '~/my ws' --set a=***"
    assert found["started"] == "2026-01-31T12:00:00+00:00"
    assert found["host"] == platform.node()
    assert found["processor"].endswith(f"{os.cpu_count()} cores")
    assert found["omp_num_threads"] == "1"
    assert found["torch"]["threads"] == 3
    assert found["torch"]["deterministic"] is True
    assert found["torch"]["cudnn_benchmark"] is False
    assert found["torch"]["cuda"] == torch.version.cuda
    assert found["torch"]["matmul_fp32"] in ("none", "ieee", "tf32")


def test_torch_is_not_loaded_to_say_so():
    code = (
        "import sys; from datetime import UTC, datetime\n"
        "from ragcun_cli.pipeline.machine.provenance import circumstances\n"
        "assert circumstances(datetime.now(UTC))['torch'] is None\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
