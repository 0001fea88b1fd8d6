"""diffusers' PyTorch side of the benchmarks, on two threads. It is driven as peer.py is."""

import json
import resource
import sys
import time

import torch
from diffusers import UNet2DConditionModel


def cpu_seconds():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def peak_bytes():
    with open("/proc/self/status") as status:
        for line in status:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    raise RuntimeError("no VmHWM in /proc/self/status")


def unet_forward(batch, side, text_width, **config):
    """A UNet in float32 on a batch of latents."""
    with torch.device("meta"):
        model = UNet2DConditionModel(cross_attention_dim=text_width, **config)
    model = model.to_empty(device="cpu").eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.zero_()
            elif parameter.dim() == 1:
                parameter.fill_(1)
            else:
                bound = parameter[0].numel() ** -0.5
                parameter.uniform_(-bound, bound)
    inputs = [torch.randn(batch, 4, side, side), torch.full((batch,), 500.0), torch.randn(batch, 77, text_width)]
    added = None
    if config.get("addition_embed_type"):
        added = {"text_embeds": torch.randn(batch, 1280), "time_ids": torch.full((batch, 6), 512.0)}

    @torch.no_grad()
    def run():
        if not torch.isfinite(model(*inputs, added_cond_kwargs=added).sample).all():
            raise RuntimeError("the output is not finite")

    return run, {
        "compile_wall": 0, "compile_cpu": 0, "parameters": sum(p.numel() for p in model.parameters()),
        "state_bytes": 0, "alias_bytes": 0,
    }


SD15 = dict(text_width=768, attention_head_dim=8)
SD21 = dict(text_width=1024, attention_head_dim=(5, 10, 20, 20), use_linear_projection=True)
SDXL = dict(
    text_width=2048, block_out_channels=(320, 640, 1280), attention_head_dim=(5, 10, 20), use_linear_projection=True,
    down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"), transformer_layers_per_block=(1, 2, 10),
    addition_embed_type="text_time", addition_time_embed_dim=256, projection_class_embeddings_input_dim=2816,
)

CASES = {
    "sd15_unet_forward_64": lambda: unet_forward(2, 64, **SD15),
    "sd21_unet_forward_64": lambda: unet_forward(2, 64, **SD21),
    "sdxl_unet_forward_64": lambda: unet_forward(2, 64, **SDXL),
}


def main():
    if len(sys.argv) != 2 or sys.argv[1] not in CASES:
        sys.exit(f"usage: python bench/peer_torch.py {'|'.join(CASES)}")
    torch.set_num_threads(2)
    run, setup = CASES[sys.argv[1]]()
    print(json.dumps(setup), flush=True)
    for line in sys.stdin:
        for _ in range(int(line)):
            wall, cpu = time.perf_counter(), cpu_seconds()
            run()
            cost = {"wall": time.perf_counter() - wall, "cpu": cpu_seconds() - cpu, "peak": peak_bytes()}
            print(json.dumps(cost), flush=True)


if __name__ == "__main__":
    main()
