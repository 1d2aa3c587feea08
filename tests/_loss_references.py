"""Every loss from its definition, in float64, with loops: what the package's losses are compared with."""

import numpy as np

IGNORED = 255


def softmax(logits):
    """Returns float64 [..., K] of K logits; of one logit the probabilities of classes 0 and 1."""
    z = logits.astype(np.float64)
    if z.shape[-1] == 1:
        p = 1 / (1 + np.exp(-z))
        return np.concatenate([1 - p, p], -1)
    z = np.exp(z - z.max(-1, keepdims=True))
    return z / z.sum(-1, keepdims=True)


def pixel_terms(mask, logits, weights, class_weights, value):
    """Returns [(weight, value)] of the pixels that count; `value` of the true class's probability and the class."""
    p, terms = softmax(logits), []
    for index in np.ndindex(mask.shape):
        label = mask[index]
        if label != IGNORED and (weight := weights[index] * class_weights[label]) != 0:
            terms.append((weight, value(p[index][label], label)))
    return terms


def mean_or_sum(terms, reduction):
    total = sum(weight * value for weight, value in terms)
    return total if reduction == "sum" else total / len(terms) if terms else 0.0


def cross_entropy(mask, logits, weights, class_weights, reduction="valid_mean"):
    return mean_or_sum(pixel_terms(mask, logits, weights, class_weights, lambda p, _: -np.log(p)), reduction)


def focal(mask, logits, weights, class_weights, gamma, alpha=None, reduction="valid_mean"):
    def value(p, label):
        return (1 if alpha is None else (1 - alpha, alpha)[label]) * (1 - p) ** gamma * -np.log(p)

    return mean_or_sum(pixel_terms(mask, logits, weights, class_weights, value), reduction)


def hard_pixels(mask, logits, weights, class_weights, fraction, max_probability=None, reduction="valid_mean"):
    terms = pixel_terms(mask, logits, weights, class_weights, lambda p, _: -np.log(p))
    terms.sort(key=lambda term: term[0] * term[1], reverse=True)
    k = max(round(fraction * len(terms)), 1)
    limit = np.inf if max_probability is None else -np.log(max_probability)
    kept = [term for place, term in enumerate(terms) if place < k or term[1] > limit]
    return mean_or_sum(kept, reduction)


def regions(mask, logits, weights, class_weights, value, classes="all", per_image=False):
    """Mean over classes, and images; `value` of a region's pixels, as lists: weight, whether inside, probability."""
    p = softmax(logits)
    num_classes = p.shape[-1]
    if not per_image:  # All images laid side by side are one.
        mask, p, weights = (np.concatenate(list(x), axis=0)[None] for x in (mask, p, weights))
    means = []
    for image_mask, image_p, image_weights in zip(mask, p, weights, strict=True):
        pixels = [i for i in np.ndindex(image_mask.shape) if image_mask[i] != IGNORED and image_weights[i] != 0]
        chosen = classes
        if isinstance(classes, str):
            chosen = range(num_classes) if logits.shape[-1] > 1 else [1]
        if classes == "present" and logits.shape[-1] > 1:
            chosen = [c for c in chosen if any(image_mask[i] == c for i in pixels)]
        chosen = [c for c in chosen if class_weights[c] != 0]
        if pixels and chosen:
            w = [image_weights[i] for i in pixels]
            values = [value(w, [image_mask[i] == c for i in pixels], [image_p[i][c] for i in pixels]) for c in chosen]
            means.append(np.average(values, weights=[class_weights[c] for c in chosen]))
    return float(np.mean(means)) if means else 0.0


def dice_value(smooth):
    def value(w, inside, p):
        both = sum(a * b for a, t, b in zip(w, inside, p, strict=True) if t)
        true = sum(a for a, t in zip(w, inside, strict=True) if t)
        predicted = sum(a * b for a, b in zip(w, p, strict=True))
        return 1 - (2 * both + smooth) / (true + predicted + smooth)

    return value


def jaccard_value(smooth):
    def value(w, inside, p):
        both = sum(a * b for a, t, b in zip(w, inside, p, strict=True) if t)
        true = sum(a for a, t in zip(w, inside, strict=True) if t)
        predicted = sum(a * b for a, b in zip(w, p, strict=True))
        return 1 - (both + smooth) / (true + predicted - both + smooth)

    return value


def tversky_value(alpha, beta, smooth):
    def value(w, inside, p):
        both = sum(a * b for a, t, b in zip(w, inside, p, strict=True) if t)
        false = sum(a * b for a, t, b in zip(w, inside, p, strict=True) if not t)
        missed = sum(a * (1 - b) for a, t, b in zip(w, inside, p, strict=True) if t)
        return 1 - (both + smooth) / (both + alpha * false + beta * missed + smooth)

    return value


def lovasz_value(w, inside, p):
    """The Lovász extension of 1 - IoU: errors in falling order, each times what the set function gains."""
    errors = [1 - b if t else b for t, b in zip(inside, p, strict=True)]
    taken, total, before = set(), 0.0, 0.0
    for i in np.argsort(errors)[::-1]:
        taken.add(i)
        right = sum(w[j] for j in range(len(w)) if inside[j] and j not in taken)
        union = sum(w[j] for j in range(len(w)) if inside[j] or j in taken)
        now = 1 - right / union
        total += errors[i] * (now - before)
        before = now
    return total


def cross_entropy_dice(mask, logits, weights, class_weights, variant):
    arguments = mask, logits, weights, class_weights
    if variant == "paper":
        return 0.5 * cross_entropy(*arguments) + regions(*arguments, dice_value(0), per_image=True)
    return 0.5 * cross_entropy(*arguments) + regions(*arguments, dice_value(1))
