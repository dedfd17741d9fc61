"""Training steps in PyTorch for `pytorch.rs`: pytorch.py DIR DEPTH BATCH STEPS LR

DIR/start.f32 holds all tensors, one after the other in the order of DIR/tensors.txt (name and shape on each line),
DIR/images.f32 as many batches as labels (NCHW) and DIR/labels.u32 their labels. Writes DIR/after.f32, the tensors after
one step, and prints the loss of every step. SGD with momentum 0.9 and weight decay 1e-4.
"""
import sys

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F


class Block(nn.Module):
    def __init__(self, c_in, c_out, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(c_out)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(c_out)
        self.stride, self.added = stride, c_out - c_in

    def forward(self, x):
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if self.added:  # option A: every second pixel, zeros for the channels that are new
            x = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.added))
        return F.relu(y + x)


class Network(nn.Module):
    def __init__(self, depth):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        c_in = 16
        for stage, c_out in enumerate((16, 32, 64), 1):
            blocks = []
            for i in range((depth - 2) // 6):
                blocks.append(Block(c_in, c_out, 2 if stage > 1 and i == 0 else 1))
                c_in = c_out
            setattr(self, f"layer{stage}", nn.Sequential(*blocks))
        self.fc = nn.Linear(64, 10)

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.fc(x.mean((2, 3)))


directory, depth, batch, steps, lr = sys.argv[1], *map(int, sys.argv[2:5]), float(sys.argv[5])
names = [line.split() for line in open(f"{directory}/tensors.txt")]
start = torch.from_numpy(np.fromfile(f"{directory}/start.f32", "<f4"))
network, at, state = Network(depth).train(), 0, {}
for name, *shape in names:
    shape = [int(s) for s in shape]
    n = int(np.prod(shape))
    state[name] = start[at : at + n].reshape(shape).clone()
    at += n
left_over = network.load_state_dict(state, strict=False)
assert all(key.endswith("num_batches_tracked") for key in left_over.missing_keys) and not left_over.unexpected_keys
images = torch.from_numpy(np.fromfile(f"{directory}/images.f32", "<f4")).reshape(-1, batch, 3, 32, 32)
labels = torch.from_numpy(np.fromfile(f"{directory}/labels.u32", "<u4").astype(np.int64)).reshape(-1, batch)
optimizer = torch.optim.SGD(network.parameters(), lr=lr, momentum=0.9, weight_decay=1e-4)
for step in range(steps):
    i = step % len(images)
    optimizer.zero_grad()
    loss = F.cross_entropy(network(images[i]), labels[i])
    loss.backward()
    optimizer.step()
    print(repr(loss.item()))
    if step == 0:
        after = network.state_dict()
        np.concatenate([after[name].detach().numpy().ravel() for name, *_ in names]).astype("<f4").tofile(f"{directory}/after.f32")
