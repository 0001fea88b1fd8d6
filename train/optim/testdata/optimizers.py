# Writes the file that it is given: parameters after each of five steps on given gradients, with torch 2.15.0 and transformers 5.23.0.
# Adafactor is transformers', AdamW torch's, Lion algorithm 2 of its paper.
import json, sys, torch, transformers
from transformers.optimization import Adafactor
numbers = lambda x: [float(f"{v:.9g}") for v in x.flatten().tolist()]
torch.manual_seed(0)
shapes = {"dense": [5, 3], "kernel": [4, 2, 3, 3], "vector": [6]}
params = {k: torch.randn(s) for k, s in shapes.items()}
grads = [{k: torch.randn(s) * 10 ** (i - 2) for k, s in shapes.items()} for i in range(5)]

class Lion(torch.optim.Optimizer):
    def __init__(self, params, lr, betas, weight_decay):
        super().__init__(params, dict(lr=lr, betas=betas, wd=weight_decay))
    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            b1, b2 = group["betas"]
            for p in group["params"]:
                m = self.state[p].setdefault("m", torch.zeros_like(p))
                update = (m * b1 + p.grad * (1 - b1)).sign_()
                p.mul_(1 - group["lr"] * group["wd"]).add_(update, alpha=-group["lr"])
                m.mul_(b2).add_(p.grad, alpha=1 - b2)

out = {"shapes": shapes, "params": {k: numbers(v) for k, v in params.items()},
       "grads": [{k: numbers(v) for k, v in g.items()} for g in grads], "after": {}}
for name, make in {
    "adamw": lambda p: torch.optim.AdamW(p, lr=1e-2, betas=(0.9, 0.999), weight_decay=1e-2, eps=1e-8),
    "lion": lambda p: Lion(p, lr=1e-2, betas=(0.9, 0.99), weight_decay=1e-2),
    "adafactor": lambda p: Adafactor(p, lr=1e-2, scale_parameter=False, relative_step=False, weight_decay=1e-2),
    "adafactor_scaled": lambda p: Adafactor(p, lr=1e-2, scale_parameter=True, relative_step=False, weight_decay=1e-2),
    "adafactor_relative": lambda p: Adafactor(p, lr=None, scale_parameter=False, relative_step=True, weight_decay=1e-2),
}.items():
    ps = {k: torch.nn.Parameter(v.clone()) for k, v in params.items()}
    o = make(list(ps.values()))
    steps = []
    for g in grads:
        for k, p in ps.items():
            p.grad = g[k].clone()
        o.step()
        steps.append({k: numbers(p.detach()) for k, p in ps.items()})
    out["after"][name] = steps
json.dump(out, open(sys.argv[1], "w"), default=float)
print(torch.__version__, transformers.__version__)
