"""The networks to time, under the names this project gives their layers: torchvision's for ImageNet, and the
paper's CIFAR networks (He et al. 2016, section 4.2) with shortcut option A."""

import re

import torch
import torch.nn as nn
import torch.nn.functional as F


class BasicBlock(nn.Module):
    """Two 3x3 convolutions; where the map shrinks, the shortcut takes every second pixel and adds zero channels."""

    # ncnn has no strided slice; a 1x1 max pool with a stride is the same thing.
    subsample_by_pooling = False

    def __init__(self, c_in, c_out, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(c_out)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(c_out)
        self.stride, self.zeros = stride, c_out - c_in

    def forward(self, x):
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if self.stride != 1 or self.zeros:
            x = F.max_pool2d(x, 1, self.stride) if self.subsample_by_pooling else x[:, :, :: self.stride, :: self.stride]
            x = F.pad(x, (0, 0, 0, 0, 0, self.zeros))
        return F.relu(y + x)


class CifarResNet(nn.Module):
    """6n + 2 layers for 32x32 pictures: 16, 32 and 64 channels, n blocks each."""

    def __init__(self, depth, classes=10):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        c_in = 16
        for stage, c_out in enumerate((16, 32, 64), 1):
            blocks = []
            for block in range((depth - 2) // 6):
                blocks.append(BasicBlock(c_in, c_out, 2 if stage > 1 and block == 0 else 1))
                c_in = c_out
            setattr(self, f"layer{stage}", nn.Sequential(*blocks))
        self.fc = nn.Linear(64, classes)

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.fc(torch.flatten(F.adaptive_avg_pool2d(x, 1), 1))


def side(name):
    """Height and width of a network's pictures."""
    return 32 if name.endswith("-cifar") else 224


def build(name, weights=None):
    """The network called `name`, for inference; generated weights unless a state dict is given."""
    torch.manual_seed(0)
    if cifar := re.fullmatch(r"resnet(\d+)-cifar", name):
        network = CifarResNet(int(cifar[1]))
    elif re.fullmatch(r"resnet(18|34|50|101|152)", name):
        import torchvision

        network = getattr(torchvision.models, name)(weights=None)
    else:
        raise SystemExit(f"no network {name!r}: resnet18, 34, 50, 101, 152, or resnetN-cifar")
    if weights is not None:
        network.load_state_dict(weights)
        return network.eval()
    return calibrated(network, name)


def calibrated(network, name):
    """Random weights, and batch norm statistics from one pass in training mode, so that values stay in range."""
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    for norm in norms:
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.normal_(norm.bias, 0, 0.1)
        norm.momentum = 1.0
    network.train()
    with torch.no_grad():
        network(torch.randn(8, 3, side(name), side(name), generator=torch.Generator().manual_seed(1)))
    return network.eval()
