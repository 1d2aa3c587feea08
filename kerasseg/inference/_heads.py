"""Models with several heads, such as UNet++ with deep supervision: all of them, or one."""

from tensorflow import keras

from kerasseg.layers import AverageProbabilities


def one_output(model: keras.Model, head: str | int | None) -> keras.Model:
    """Returns a model of one output, made of a model with heads; it shares the weights.

    Args:
        model: With an output for each head, or one output that is their mean (`AverageProbabilities`).
        head: "mean": the mean of all heads' probabilities, as logits (UNet++'s accurate mode); 1, 2, ...: that head
            alone, with the part of the network that it reads (the fast mode); None: the model as it is.

    Raises:
        ValueError: The model has no several heads, or not this one.
    """
    if head is None:
        return model
    last = model.layers[-1]
    averaged = isinstance(last, AverageProbabilities)
    heads = list(last.input if averaged else model.outputs)
    if len(heads) < 2:
        raise ValueError(
            f"head={head!r} is for models of several heads, as UNet++ with deep supervision; {model.name!r} has one"
        )
    if head == "mean":
        if averaged:
            return model
        return keras.Model(model.input, AverageProbabilities(dtype="float32")(heads), name=f"{model.name}_averaged")
    if isinstance(head, bool) or head not in range(1, len(heads) + 1):
        raise ValueError(f"head must be 'mean' or a number from 1 to {len(heads)} for {model.name!r}, got {head!r}")
    return keras.Model(model.input, heads[head - 1], name=f"{model.name}_l{head}")
