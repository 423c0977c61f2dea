"""The shipped LoRA backend passes the suite that plugin authors use."""

from __future__ import annotations

from hookline.testkit.lora import LoRABackendSuite


class TestTorch(LoRABackendSuite):
    name = "torch"
