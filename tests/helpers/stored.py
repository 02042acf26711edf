"""Changes the tensors in a folder's weight file."""

from safetensors.torch import load_file, save_file

WEIGHTS = "model.safetensors"


def rewrite(folder, change, file=WEIGHTS):
    """Changes the tensors in a folder's weights."""
    tensors = load_file(folder / file)
    change(tensors)
    tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
    save_file(tensors, folder / file, metadata={"format": "pt"})


def add_tensors(folder, more, file=WEIGHTS):
    rewrite(folder, lambda tensors: tensors.update(more), file)
