"""The speaker encoder CAM++ as 3D-Speaker publishes it: 80 mel bins to 192 numbers.

Wang et al. 2023, "CAM++: A Fast and Efficient Network for Speaker Verification Using Context-Aware
Masking", arXiv:2303.00332. The names of its parameters are those of the published weights.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn import functional as F

MEL_BINS = 80
STYLE_DIM = 192
_HEAD_CHANNELS = 32
_CHANNELS, _BOTTLENECK, _GROWTH = 128, 128, 32
_BLOCKS = ((12, 1), (24, 2), (16, 2))
"""Layers and dilation of each dense block."""
_SEGMENT_FRAMES = 100


class CamPlusPlus(nn.Module):
    """``[B, T, 80]`` mean-free log-mel frames -> ``[B, 192]``, for inference in eval mode.

    A clip gives the same in any company. Within, ``real`` is 1 on a clip's frames and 0 after them.
    """

    def __init__(self) -> None:
        """Random weights, to be loaded."""
        super().__init__()
        self.head = Head()
        self.xvector = nn.Sequential()
        self.xvector.add_module("tdnn", _tdnn(self.head.out_channels))
        channels = _CHANNELS
        for number, (layers, dilation) in enumerate(_BLOCKS, start=1):
            self.xvector.add_module(f"block{number}", _dense_block(channels, layers, dilation))
            channels += layers * _GROWTH
            self.xvector.add_module(f"transit{number}", _transition(channels))
            channels //= 2
        self.xvector.add_module("out_nonlinear", _norm_relu(channels))
        self.dense = _dense(2 * channels)

    def forward(self, frames: Tensor, lengths: Tensor) -> Tensor:
        """``frames`` are 0 after each clip's ``lengths``, int64 [B] of three or more."""
        states = self.head(frames.transpose(1, 2), _real(lengths, frames))
        halved = (lengths + 1) // 2  # by the stride of the first layer
        states = self.xvector.get_submodule("tdnn")(states)
        real = _real(halved, states.transpose(1, 2))
        for number in range(1, len(_BLOCKS) + 1):
            for layer in self.xvector.get_submodule(f"block{number}").children():
                states = layer(states, real)
            states = self.xvector.get_submodule(f"transit{number}")(states)
        states = self.xvector.get_submodule("out_nonlinear")(states)
        style: Tensor = self.dense(_statistics(states, real)[..., None])[..., 0]
        return style


class Head(nn.Module):
    """The two-dimensional front end, ``[B, 80, T] -> [B, 320, T]``."""

    def __init__(self) -> None:
        """Three strides of two along the frequency."""
        super().__init__()
        self.conv1 = nn.Conv2d(1, _HEAD_CHANNELS, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(_HEAD_CHANNELS)
        self.layer1 = nn.Sequential(Residual(stride=2), Residual(stride=1))
        self.layer2 = nn.Sequential(Residual(stride=2), Residual(stride=1))
        self.conv2 = _conv3x3(stride=2)
        self.bn2 = nn.BatchNorm2d(_HEAD_CHANNELS)
        self.out_channels = _HEAD_CHANNELS * MEL_BINS // 8

    def forward(self, bins: Tensor, real: Tensor) -> Tensor:
        """Channels and what is left of the frequency become one axis."""
        states = F.relu(self.bn1(self.conv1(bins[:, None]))) * real[:, None]
        for block in (*self.layer1, *self.layer2):
            states = block(states, real)
        return F.relu(self.bn2(self.conv2(states))).flatten(1, 2) * real


class Residual(nn.Module):
    """Two convolutions and a shortcut, ``[B, 32, F, T] -> [B, 32, F / stride, T]``."""

    def __init__(self, *, stride: int) -> None:
        """A stride is of the frequency alone, and gives the shortcut a convolution."""
        super().__init__()
        self.conv1 = _conv3x3(stride)
        self.bn1 = nn.BatchNorm2d(_HEAD_CHANNELS)
        self.conv2 = _conv3x3(stride=1)
        self.bn2 = nn.BatchNorm2d(_HEAD_CHANNELS)
        self.shortcut = nn.Sequential()
        if stride > 1:
            self.shortcut.append(
                nn.Conv2d(_HEAD_CHANNELS, _HEAD_CHANNELS, 1, stride=(stride, 1), bias=False)
            )
            self.shortcut.append(nn.BatchNorm2d(_HEAD_CHANNELS))

    def forward(self, states: Tensor, real: Tensor) -> Tensor:
        """Shapes as in the class."""
        inner = F.relu(self.bn1(self.conv1(states))) * real[:, None]
        inner = self.bn2(self.conv2(inner))
        return F.relu(inner + self.shortcut(states)) * real[:, None]


class DenseLayer(nn.Module):
    """Puts 32 channels beside those it gets, ``[B, C, T] -> [B, C + 32, T]``."""

    def __init__(self, channels: int, dilation: int) -> None:
        """``channels`` is C."""
        super().__init__()
        self.nonlinear1 = _norm_relu(channels)
        self.linear1 = nn.Conv1d(channels, _BOTTLENECK, 1, bias=False)
        self.nonlinear2 = _norm_relu(_BOTTLENECK)
        self.cam_layer = ContextAwareMask(dilation)

    def forward(self, states: Tensor, real: Tensor) -> Tensor:
        """Shapes as in the class."""
        inner = self.nonlinear2(self.linear1(self.nonlinear1(states))) * real
        return torch.cat([states, self.cam_layer(inner, real)], dim=1)


class ContextAwareMask(nn.Module):
    """A convolution gated by its surroundings, ``[B, 128, T] -> [B, 32, T]``; the paper's 2.2."""

    def __init__(self, dilation: int) -> None:
        """A kernel of three frames, ``dilation`` apart."""
        super().__init__()
        self.linear_local = nn.Conv1d(
            _BOTTLENECK, _GROWTH, 3, padding=dilation, dilation=dilation, bias=False
        )
        self.linear1 = nn.Conv1d(_BOTTLENECK, _BOTTLENECK // 2, 1)
        self.linear2 = nn.Conv1d(_BOTTLENECK // 2, _GROWTH, 1)

    def forward(self, states: Tensor, real: Tensor) -> Tensor:
        """The gate of a frame sees the mean of all frames and that of the frame's segment."""
        means = states.sum(-1, keepdim=True) / real.sum(-1, keepdim=True)
        context = means + _segment_means(states, real)
        gate = torch.sigmoid(self.linear2(F.relu(self.linear1(context))))
        local: Tensor = self.linear_local(states)
        return local * gate


def _real(lengths: Tensor, frames: Tensor) -> Tensor:
    """[B, 1, T] of ``frames`` [B, T, C]: 1 before each of ``lengths``, then 0."""
    place = torch.arange(frames.shape[1], device=lengths.device)
    return (place < lengths[:, None])[:, None].to(frames.dtype)


def _segment_means(states: Tensor, real: Tensor) -> Tensor:
    """[B, C, T]: each frame gets the mean of its 100 frames; the last segment may be shorter."""
    pooled, share = (
        F.avg_pool1d(part, _SEGMENT_FRAMES, _SEGMENT_FRAMES, ceil_mode=True)
        for part in (states, real)
    )
    means = pooled / share.clamp(min=1 / _SEGMENT_FRAMES)
    return means.repeat_interleave(_SEGMENT_FRAMES, dim=-1)[..., : states.shape[-1]]


def _statistics(states: Tensor, real: Tensor) -> Tensor:
    """[B, C, T] -> [B, 2 C]: mean and unbiased standard deviation of each clip's frames."""
    count = real.sum(-1)
    means = (states * real).sum(-1) / count
    apart = (states - means[..., None]) * real
    deviations = (apart.square().sum(-1) / (count - 1)).sqrt()
    return torch.cat([means, deviations], dim=1)


def _conv3x3(stride: int) -> nn.Conv2d:
    return nn.Conv2d(_HEAD_CHANNELS, _HEAD_CHANNELS, 3, stride=(stride, 1), padding=1, bias=False)


def _norm_relu(channels: int) -> nn.Sequential:
    return nn.Sequential(OrderedDict(batchnorm=nn.BatchNorm1d(channels), relu=nn.ReLU()))


def _tdnn(channels: int) -> nn.Sequential:
    """Halves the number of frames."""
    linear = nn.Conv1d(channels, _CHANNELS, 5, stride=2, padding=2, bias=False)
    return nn.Sequential(OrderedDict(linear=linear, nonlinear=_norm_relu(_CHANNELS)))


def _dense_block(channels: int, layers: int, dilation: int) -> nn.Sequential:
    named = ((f"tdnnd{i + 1}", DenseLayer(channels + i * _GROWTH, dilation)) for i in range(layers))
    return nn.Sequential(OrderedDict(named))


def _transition(channels: int) -> nn.Sequential:
    linear = nn.Conv1d(channels, channels // 2, 1, bias=False)
    return nn.Sequential(OrderedDict(nonlinear=_norm_relu(channels), linear=linear))


def _dense(channels: int) -> nn.Sequential:
    norm = nn.Sequential(OrderedDict(batchnorm=nn.BatchNorm1d(STYLE_DIM, affine=False)))
    linear = nn.Conv1d(channels, STYLE_DIM, 1, bias=False)
    return nn.Sequential(OrderedDict(linear=linear, nonlinear=norm))
