"""Random modules as Python code, for fuzz_modules.py: random statements, and simple modules around a single trap."""

from __future__ import annotations

import random

WIDTH = 4
# A statement is a template over the names that exist: {h} and {g} activations, {n} a new name, {c} a number.
PLAIN = (
    "{n} = self.relu({h})",
    "{n} = torch.relu({h})",
    "{n} = self.a({h})",
    "{n} = self.b({h})",
    "{n} = self.twin({h})",
    "{n} = self.norm({h})",
    "{n} = {h} + {g}",
    "{n} = {h} - {g}",
    "{n} = {h} * {c}",
    "{n} = {c} - {h}",
    "{n} = {h} * self.scale + self.shift",
    "{n} = ({h} - self.shift) / self.divisor",
    "{n} = -{h}",
    "{n} = {h}.clone()",
)
MOVED = (
    "{n} = torch.cat([{h}[:, 2:], {g}[:, :2]], 1)",
    "{n} = torch.cat({h}.split([1, 3], 1)[::-1], 1)",
    "{n} = torch.stack([{h}[:, 0], {g}[:, 1], {h}[:, 2], {g}[:, 3]], 1)",
    "{n} = {h}.flip(1)",
    "{n} = {h}.roll(1, 1)",
    "{n} = {h}[:, [1, 0, 3, 3]]",
    "{n} = {h}.index_select(1, torch.tensor([3, 1, 1, 0]))",
    "{n} = torch.where(torch.arange(4) > 1, {h}, {g})",
    "{n} = {h}.masked_fill(torch.arange(4) == 2, {c})",
    "{n} = F.pad({h}[:, 1:], (1, 0), value={c})",
    "{n} = F.pad({h}[:, :2], (1, 1), mode='replicate')",
    "{n} = F.interpolate({h}.repeat(1, 13)[:, None], size=22, mode='nearest-exact')[:, 0, 3:7]",
    "{n} = F.interpolate({h}[:, None], size=7)[:, 0, 2:6]",
    "{n} = {h}.view(-1, 2, 2).mT.flatten(1)",
    "{n} = {h}.view(-1, 2, 2).permute(2, 0, 1).permute(1, 0, 2).reshape(-1, 4)",
    "{n} = {h}.view(-1, 2, 2).diagonal(dim1=1, dim2=2).repeat(1, 2)",
    "{n} = {h}[:, :1].expand(-1, 4)",
    "{n} = {h}.unfold(1, 1, 1).squeeze(2)",
    "{n} = {h}.as_strided((len({h}), 4), ({h}.stride(0), 0), 1)",
    "{n} = {h}.mean(1, keepdim=True) + {g}",
    "{n} = {h}.view(-1, 2, 2).sum(1).repeat(1, 2)",
    "{n} = sum({h}.chunk(2, 1)).repeat_interleave(2, 1)",
    "{n} = self.pair({h}.view(-1, 2, 2)).flatten(1)",
    "{n} = self.pair({h}.view(-1, 2)).view(-1, 4)",
    "{n} = self.line({h}.unsqueeze(1)).squeeze(1)",
    "{n} = self.back({h}.view(-1, 2, 2)).flatten(1)",
    "{n} = {h} + self.offset",
    "{n} = self.offset - {h}",
    "{n} = {h} * self.offset",
    "{h}.view(-1, 2).relu_()",
    "{h}.view(-1, 2, 2).mT.mul_({c})",
    "{h}[:, [0]] = {g}[:, [1]]",
    "{n} = {h}.roll(1, 0)",
    "{n} = {h}.view(2, -1).t().reshape(-1, 4)",
)
ALIAS = (
    "{n} = self.same({h})",
    "{n} = self.drop({h})",
    "{n} = self.flat({h})",
    "{n} = F.dropout({h}, 0.5, self.training)",
    "{n} = {h}.view(-1, 4)",
    "{n} = {h}.reshape(len({h}), 4)",
    "{n} = {h}.unsqueeze(1).squeeze(1)",
    "{n} = {h}[:]",
    "{n} = {h}[...]",
    "{n} = {h}.detach()",
    "{n} = {h}.data",
    "{n} = {h}.contiguous()",
    "{n} = {h}.flatten(1)",
    "{n} = {h}.chunk(1, 1)[0]",
    "{n} = {h}.expand(-1, 4)",
    "{n} = {h}.t().t()",
    "{n} = {h}",
)
IN_PLACE = (
    "self.inplace({h})",
    "{h}.relu_()",
    "torch.relu_({h})",
    "F.relu({h}, inplace=True)",
    "{h} += {g}",
    "{h} -= {c}",
    "{h} *= {c}",
    "{h}.add_({g}, alpha={c})",
    "{h}.mul_(self.scale)",
    "{h}.copy_({g})",
    "torch.add({g}, {h}, alpha={c}, out={h})",
    "{h}.view(-1, 4).mul_({c})",
    "{h}.data.add_({c})",
    "{h}[:] = {g}",
    "{h}.neg_()",
    "x *= {c}",
    "x.relu_()",
)
ARGUMENTS = (
    "{n} = torch.add({h}, {g}, alpha={c})",
    "{n} = torch.sub({h}, {g}, alpha={c})",
    "{n} = {h}.sub({g}, alpha={c})",
    "{n} = torch.rsub({h}, {g}, alpha={c})",
    "{n} = {h} if gate is None else {h} * gate",
    "{n} = self.relu({h}) if flag else -self.relu({h})",
    "{n} = F.linear({h}, self.a.weight, self.b.bias)",
    "{n} = torch.mul({h}, {c}, out=torch.empty_like({h}))",
)
ACTIVATIONS = (
    "{n} = F.leaky_relu({h}, 0.1)",
    "F.leaky_relu({h}, 0.2, inplace=True)",
    "{n} = self.prelu({h})",
    "{n} = {h}.clamp(-0.5, 0.75)",
    "{n} = {h}.clamp(min={c})",
    "{h}.clamp_(max={c})",
    "{n} = F.relu6({h})",
    "{n} = {h}.abs()",
    "{n} = torch.maximum({h}, {g})",
    "{n} = torch.minimum({h}, self.shift)",
    "{n} = F.max_pool1d({h}.unsqueeze(1), 3, 1, 1).squeeze(1)",
    "{n} = F.max_pool1d({h}.view(-1, 2, 2), 2).flatten(1).repeat(1, 2)",
    "{n} = F.max_pool2d({h}.view(-1, 1, 2, 2), (2, 1)).flatten(1).repeat_interleave(2, 1)",
    "{n} = self.most({h}.view(-1, 1, 2, 2)).flatten(1)",
    "{n} = torch.sigmoid({h})",
    "{h}.tanh_()",
    "{n} = F.silu({h}, inplace=True)",
    "{n} = F.gelu({h})",
    "{n} = F.gelu({h}, approximate='tanh')",
    "{n} = F.softplus({h}, beta=2.0)",
    "{n} = F.elu({h}, 1.5)",
    "{n} = F.selu({h})",
    "{n} = F.hardswish({h})",
    "{n} = F.hardsigmoid({h})",
)
ODD = (
    "{n} = {h} * {h}.sum().item()",
    "{n} = {h} if {h}.sum() > {c} else -{h}",
    "{n} = {h} if {h}.tolist()[0][0] > {c} else -{h}",
    "{n} = {h} + torch.rand_like({h}) * 0.01",
    "{n} = {h} + float({h}.detach().numpy().max())",
    "self.count = self.count + 1; {n} = {h} + (self.count > 20) * {c}",
    "self.memory.add_({c}); {n} = {h} + self.memory",
    "{h}[:, 0] = 0.0",
    "{h}[:, 1:].mul_({c})",
    "{n} = {h}[:, [1, 0, 2, 3]]",
    "{n} = torch.where({h} > 0, {h}, 0.1 * {h})",
    "{n} = {h}.double().float()",
    "{n} = {h} * self.a.weight[0]",
    "{n} = torch.from_numpy({h}.detach().numpy()) * {c}",
    "{h}.resize_(len({h}), 4).mul_({c})",
    "{h}.data = {g}.data",
    "{n} = F.dropout({h}, 0.0)",
    "{n} = F.mish({h})",
    "{n} = {h}.sign()",
    "{n} = {h}.half().float()",
    "try:\n            {n} = {h} @ {g}\n        except RuntimeError:\n            {n} = {h} * {c}",
)
CODE = """
class Fuzzed(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.a, self.b, self.last = nn.Linear(3, 4), nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 3)
        self.twin = nn.Linear(4, 4)
        {tie}
        self.pair, self.offset = nn.Linear(2, 2), nn.Parameter(torch.zeros(4))
        self.line, self.back = nn.Conv1d(1, 1, 3, padding=1), nn.ConvTranspose1d(2, 1, 2, stride=2)
        self.norm, self.relu, self.inplace = nn.BatchNorm1d(4), nn.ReLU(), nn.ReLU(inplace=True)
        self.prelu, self.most = nn.PReLU(4), nn.MaxPool2d(2, 1, padding=1, dilation=2)
        self.same, self.drop, self.flat = nn.Identity(), nn.Dropout(0.3), nn.Flatten()
        self.ending = nn.Softmax(1)
        self.scale, self.count = {scale}, 0
        self.register_buffer("shift", torch.tensor({shift}), persistent={persistent})
        self.register_buffer("divisor", torch.tensor([2.0, 0.5, 1.0, 4.0]))
        self.register_buffer("memory", torch.zeros(4))
        {hook}

    def forward(self, x, gate=None, *, flag={flag}):
        {body}
"""
HOOKS = (
    "self.a.register_forward_hook(lambda module, args, out: out * 0.5)",
    "self.relu.register_forward_hook(lambda module, args, out: None)",
    "self.b.register_forward_pre_hook(lambda module, args: (args[0] + 1,))",
)


def write_module(draw: random.Random) -> str:
    """The code of one class ``Fuzzed``; most are of plain and aliasing statements, some have odd ones."""
    odd = draw.random() < 0.25
    names, lines = ["h0"], ["h0 = self.first(x)"]
    for number in range(draw.randint(3, 9)):
        kinds = [PLAIN, PLAIN, MOVED, MOVED, ALIAS, ALIAS, IN_PLACE, ARGUMENTS, ACTIVATIONS, *([ODD] if odd else [])]
        template = draw.choice(draw.choice(kinds))
        new = f"h{number + 1}"
        h, g = draw.choice(names[-3:]), draw.choice(names)
        constant = draw.choice(("0.5", "-1.0", "2.0", "0.25", "-0.7"))
        lines.append(template.format(n=new, h=h, g=g, c=constant))
        if "{n}" in template:
            names.append(new)
    last = draw.choice(("{0}",) * 8 + ("self.ending({0})", "{0}.log_softmax(1)"))
    lines.append("return " + last.format(f"self.last({names[-1]} + {draw.choice(names)})"))
    return CODE.format(
        tie="self.twin.weight = self.a.weight" if draw.random() < 0.3 else "pass",
        scale=draw.choice(("2.0", "-0.5", "torch.tensor([1.0, -1.0, 0.5, 2.0])")),
        shift=[round(draw.uniform(-1, 1), 3) for _ in range(WIDTH)],
        persistent=draw.random() < 0.5,
        hook=draw.choice(HOOKS) if draw.random() < 0.05 else "pass",
        flag=draw.random() < 0.5,
        body="\n        ".join(lines),
    )


# What is easily misread: h and the input x are read again after a step that changed them under another name, or the
# step has an argument that matters. {alias} is a template of SHARED, {step} one of STEPS.
TRAPS = (
    "k = {alias}\n{step}\nh = self.a(h) + {c} * k",
    "k = {alias}\n{step}\nh = self.a(k) + h",
    "k = {alias}\n{step}\nh = self.a(self.relu(self.b(x))) - h",
    "k = {alias}\n{step}\nh = h",
    "k, r = h, self.relu(self.a(h))\nh += r\nh = self.a(h) + {c} * k",
    "k, r = h, self.relu(h)\nh -= r\nh = h + k",
    "k, r = h, self.relu(h)\nh *= {c}\nh = self.a(k) + r",
    "h = torch.sub(self.b(x), h, alpha={c})",
    "h = torch.add(self.b(x), h, alpha={c})",
    "h = h.sub(self.relu(self.a(h)), alpha={c})",
    "h = h.add(self.relu(self.a(h)), alpha={c})",
    "h = self.relu(h) if gate is None else h * gate",
    "if gate is None:\n    h = self.a(self.relu(h))\nelse:\n    h = self.a(h) * gate",
    "h = self.a(h) if gate is not None else h * {c}",
    "h = h * self.scale",
    "h = self.a(self.relu(h)) + self.scale * h",
    "x *= {c}\nh = h + self.b(x)",
    "x.relu_().mul_({c})\nh = self.b(x)",
    "k = self.flat(x)\nk *= {c}\nh = h - self.b(x)",
    "k = h.view(-1, 2, 2).mT\n{step}\nh = self.a(h) + k.flatten(1)",
    "k = h[:, 1:3]\nh.mul_({c})\nh = torch.cat([k, h[:, :2]], 1)",
    "k, r = h.split(2, 1)\n{step}\nh = torch.cat([r, k], 1) - h",
    "k = h.view(-1, 2)\n{step}\nh = k.view(-1, 4).flip(1) + h",
    "h = torch.cat([h.flatten()[1:], h.flatten()[:1]]).view(-1, 4)",
)
SHARED = (
    "self.same(h)",
    "self.drop(h)",
    "self.flat(h)",
    "F.dropout(h, 0.5, self.training)",
    "torch.flatten(h, 1)",
    "h.view(-1, 4)",
    "h.reshape(-1, 4)",
    "h.flatten(1)",
    "h[:, :1].expand(-1, 4)",
    "h.unfold(1, 1, 1).squeeze(2)",
    "h",
)
STEPS = (
    "self.inplace(k)",
    "k.relu_()",
    "F.relu(k, inplace=True)",
    "k *= {c}",
    "k += {c}",
    "k.mul_({c})",
    "k += self.b(x)",
)
SIMPLE = """
class Fuzzed(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.a, self.b, self.last = nn.Linear(3, 4), nn.Linear(4, 4), nn.Linear(3, 4), nn.Linear(4, 3)
        self.relu, self.inplace, self.scale = nn.ReLU(), nn.ReLU(inplace=True), {c}
        self.same, self.drop, self.flat = nn.Identity(), nn.Dropout(0.3), nn.Flatten()

    def forward(self, x, gate=None):
        {body}
"""


def write_simple(draw: random.Random) -> str:
    """The code of a class ``Fuzzed`` with one trap and little else."""
    c = draw.choice(("0.5", "-1.0", "2.0", "0.9", "-0.7", "5"))
    trap = draw.choice(TRAPS).format(alias=draw.choice(SHARED), step=draw.choice(STEPS).format(c=c), c=c)
    first = draw.choice(("h = self.first(x)", "h = self.first(x)", "h = self.a(torch.relu(self.first(x)))"))
    last = draw.choice(("return self.last(h)", "return self.last(self.relu(h))"))
    return SIMPLE.format(c=c, body="\n        ".join(f"{first}\n{trap}\n{last}".split("\n")))
