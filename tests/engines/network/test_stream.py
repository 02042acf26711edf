"""How heads write into the stream of hand-made blocks, and who reads it, or why that is not known."""

import pytest
import torch
from torch import nn

from inactive_heads.engines.network.stream import (
    blocks_around,
    capture_streams,
    follow_stream,
)

WIDTH = 16


class Attention(nn.Module):
    """What matters of attention here: its output projection."""

    def __init__(self):
        super().__init__()
        self.qkv = nn.Linear(WIDTH, WIDTH)
        self.o_proj = nn.Linear(WIDTH, WIDTH)

    def forward(self, x):
        return self.o_proj(self.qkv(x).cumsum(dim=-2)), None


class Block(nn.Module):
    def __init__(self, body):
        super().__init__()
        self.n1, self.n2, self.n3 = (nn.RMSNorm(WIDTH) for _ in range(3))
        self.attention = Attention()
        self.mlp = nn.Sequential(nn.Linear(WIDTH, 8), nn.GELU(), nn.Linear(8, WIDTH))
        self.gate, self.other = nn.Linear(WIDTH, 1), nn.Linear(WIDTH, WIDTH)
        self.body = body

    def a(self, x):
        return self.attention(x)[0]

    def forward(self, hidden_states):
        return self.body(self, hidden_states)


class Network(nn.Module):
    def __init__(self, *bodies, between=lambda x: x):
        super().__init__()
        torch.manual_seed(0)
        self.blocks = nn.ModuleList(Block(body) for body in bodies)
        self.between = between

    def forward(self, x):
        for block in self.blocks:
            x = self.between(block(x))
        return x

    def followed(self, dtype=torch.float32):
        """The writings, and the input and output of a run; names in place of modules."""
        network = self.to(dtype)
        x = torch.randn(1, 5, WIDTH, generator=torch.Generator().manual_seed(1)).to(dtype)
        attentions = {at: block.attention for at, block in enumerate(self.blocks)}
        with torch.no_grad():
            expected = network(x)
            with follow_stream(
                blocks_around(network, attentions),
                {at: one.o_proj for at, one in attentions.items()},
            ) as writings:
                found = network(x)
        assert torch.equal(found, expected)
        assert not found.requires_grad
        assert not any(m._forward_hooks or m._forward_pre_hooks for m in network.modules())
        return writings

    def names(self, modules):
        names = {module: name for name, module in self.named_modules()}
        return [names[one].removeprefix("blocks.") for one in modules]


def llama(block, x):
    x = x + block.a(block.n1(x))
    return x + block.mlp(block.n2(x))


def scaled(block, x):
    x = 0.5 * x + 0.3 * block.a(block.n1(x))
    return 0.5 * x + 0.3 * block.mlp(block.n2(x))


def flattened(block, x):
    shape = x.shape
    x = (x + block.a(block.n1(x))).reshape(-1, WIDTH)
    return (x + block.mlp(block.n2(x))).view(shape)


def cast(block, x):
    wide = x.double() + block.a(block.n1(x)).double()
    return (wide + block.mlp(block.n2(wide.to(x.dtype)))).to(x.dtype)


def in_place(block, x):
    a = block.a(block.n1(x))
    a += x
    out = block.mlp(block.n2(a))
    out += a
    return out


def transposed(block, x):
    x = (x.transpose(0, 1) + block.a(block.n1(x)).transpose(0, 1)).contiguous()
    return x.transpose(0, 1) + block.mlp(block.n2(x.transpose(0, 1)))


def parallel(block, x):
    return x + block.a(block.n1(x)) + block.mlp(block.n2(x))


def beside_a_mixer(block, x):
    normed = block.n1(x)
    x = x + block.a(normed) * 0.3 + block.other(normed)
    return x + block.mlp(block.n2(x))


def sandwich(block, x):
    x = x + 0.3 * block.n2(block.a(block.n1(x)))
    return x + block.mlp(block.n3(x))


def norms_after(block, x):
    x = block.n1(x + block.a(x))
    return block.n2(x + block.mlp(x))


def renewed_first(block, x):
    x = block.n1(x)
    x = block.n2(2 * x + 0.3 * block.a(x))
    return x + block.mlp(x)


def mlp_first(block, x):
    x = x + block.mlp(block.n1(x))
    return x + block.a(block.n2(x))


def no_attention(block, x):
    return x + block.other(block.n1(x))


WRITES = {  # body → multiplier, post, readers in the block itself, those that read the stream that
    # enters it, whether the stream goes on, where it is that heads add to
    llama: (1, None, ["n2"], ["n1", "n2"], True, ("", True, 1)),
    scaled: (0.3, None, ["n2"], ["n1", "n2"], True, ("", True, 0.5)),
    flattened: (1, None, ["n2"], ["n1", "n2"], True, ("", True, 1)),
    cast: (1, None, ["n2"], ["n1", "n2"], True, ("", True, 1)),
    in_place: (1, None, ["n2"], ["n1", "n2"], True, ("", True, 1)),
    transposed: (1, None, ["n2"], ["n1", "n2"], True, ("", True, 1)),
    parallel: (1, None, [], ["n1", "n2"], True, ("", True, 1)),
    beside_a_mixer: (0.3, None, ["n2"], ["n1", "n2"], True, ("", True, 1)),
    sandwich: (0.3, "n2", ["n3"], ["n1", "n3"], True, ("", True, 1)),
    norms_after: (1, None, ["n1"], ["n1"], False, ("", True, 1)),
    renewed_first: (0.3, None, ["n2"], ["n1"], False, (".n1", False, 2)),
    mlp_first: (1, None, [], ["n1", "n2"], True, (".n2", True, 1)),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("body", WRITES, ids=lambda body: body.__name__)
def test_what_is_added_and_who_reads_it_is_found(body, dtype):
    """Between llama's blocks and one without attention, in whatever way the block computes it."""
    network = Network(llama, body, no_attention, llama)
    writings = network.followed(dtype)
    multiplier, post, own, entering, goes_on, (module, is_input, factor) = WRITES[body]
    found = writings[1]
    assert (found.unknown, found.unread) == (None, None)
    assert found.multiplier == pytest.approx(multiplier, rel=2e-3)
    assert network.names([found.post] if post else []) == [f"1.{one}" for one in [post] if one]
    later = ["2.n1", "3.n1", "3.n2"] if goes_on else []
    assert network.names(found.readers) == [f"1.{one}" for one in own] + later
    assert network.names([found.place.module]) == [f"1{module}"]
    assert found.place.entering == is_input
    assert found.place.factor == pytest.approx(factor, rel=2e-3)
    ends = body in (norms_after, renewed_first)
    from_here = ["0.n2", *(f"1.{one}" for one in entering)]
    assert network.names(writings[0].readers) == from_here + (
        [] if ends else ["2.n1", "3.n1", "3.n2"]
    )
    assert writings[2].unknown == "its output projection runs in no block of a list"


ADDED_TO = {  # what heads add to, from the block's input
    llama: lambda block, x: x,
    mlp_first: lambda block, x: x + block.mlp(block.n1(x)),
    renewed_first: lambda block, x: 2 * block.n1(x),
    scaled: lambda block, x: 0.5 * x,
}


def test_the_stream_that_heads_add_to_is_captured():
    network = Network(*ADDED_TO)
    writings = network.followed()
    x = entering = torch.randn(2, 3, WIDTH)
    expected = []
    with torch.no_grad():
        for block in network.blocks:
            expected.append(ADDED_TO[block.body](block, x))
            x = block(x)
        with capture_streams(writings) as streams:
            network(entering)
    assert sorted(streams) == [0, 1, 2, 3]
    for layer, stream in enumerate(expected):
        torch.testing.assert_close(streams[layer], stream)


def gated(block, x):
    x = x + torch.sigmoid(block.gate(x)) * block.a(block.n1(x))
    return x + block.mlp(block.n2(x))


def by_coordinate(block, x):
    return x + block.other.bias * block.a(block.n1(x))


def between_tokens(block, x):
    return x + block.a(block.n1(x)).roll(1, dims=1)


def through_a_layer(block, x):
    return x + block.other(block.a(block.n1(x)))


def through_a_nonlinearity(block, x):
    return x + torch.tanh(block.a(block.n1(x)))


def lost(block, x):
    return x + 0 * block.a(block.n1(x))


def mixed(block, x):
    normed = block.n1(x)
    return x + normed + block.a(normed)


def dropped(block, x):
    return block.a(block.n1(x))


def taken_back(block, x):
    a = block.a(block.n1(x))
    return x + block.mlp(block.n2(x + a))


def squared(block, x):
    return x * x.abs() + block.a(block.n1(x))


def half_normed(block, x):
    """A norm with other heads' outputs in it: its scale is not that of attention's."""
    normed = block.n1(x)
    return x + block.n2(block.a(normed) + block.other(normed))


UNKNOWN = {
    gated: "RMSNorm reads no multiple of attention's output",
    by_coordinate: "Block returns no multiple of attention's output",
    between_tokens: "Block returns no multiple of attention's output",
    through_a_layer: "Linear stands between attention and the residual stream in Block",
    through_a_nonlinearity: "Block returns no multiple of attention's output",
    lost: "attention's output is not added to the residual stream in the block Block",
    mixed: "what Block returns mixes the residual stream with its normalised form",
    dropped: "the residual stream does not pass through the block Block",
    squared: "what Block returns is no multiple of the residual stream plus additions",
    half_normed: "attention's output is not added to the residual stream in the block Block",
}


@pytest.mark.parametrize("body", UNKNOWN, ids=lambda body: body.__name__)
def test_what_is_not_known_is_said(body):
    network = Network(llama, body, llama)
    writings = network.followed()
    assert writings[1].unknown == UNKNOWN[body]
    assert writings[2].unknown is None
    assert (writings[2].unread, network.names(writings[2].readers)) == (None, ["2.n2"])
    # Where the stream can be followed, its readers are known although that block's heads are not.
    breaks = body in (mixed, dropped, squared)
    assert writings[0].unread == (UNKNOWN[body] if breaks else None)


def half_taken_back(block, x):
    a = block.a(block.n1(x))
    x = x + a
    return x + block.mlp(block.n2(x)) - 0.5 * a


@pytest.mark.parametrize("body", [taken_back, half_taken_back])
def test_heads_whose_output_leaves_the_stream_again_are_not_read_by_later_layers(body):
    writings = Network(llama, body, llama).followed()
    assert writings[1].unread == "the block Block takes back what its heads add"
    assert writings[0].unread is None


def test_a_stream_that_is_changed_between_blocks_is_seen():
    network = Network(llama, llama, between=lambda x: x + 1)
    writings = network.followed()
    assert writings[0].unread == "the residual stream is changed between the blocks Block and Block"
    assert writings[1].unread is None
    assert Network(llama, llama, between=lambda x: 3 * x).followed()[0].unread is None


def test_streams_side_by_side_are_no_residual_stream():
    network = Network(lambda block, x: x + block.a(block.n1(x.mean(0, keepdim=True))))
    attentions = {0: network.blocks[0].attention}
    with (
        torch.no_grad(),
        follow_stream(blocks_around(network, attentions), {0: attentions[0].o_proj}) as writings,
    ):
        network(torch.randn(4, 5, WIDTH))
    assert writings[0].unknown == ("the block Block is entered by 4 residual streams side by side")
    assert writings[0].place is None
