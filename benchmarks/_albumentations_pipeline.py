"""The peer of PyTorch users: albumentations in the worker processes of a DataLoader. Imports no TensorFlow.

Its workers read the same JPEG and PNG bytes from files, decode them with OpenCV, augment and collate.
"""

import albumentations
import cv2
import numpy as np
from torch.utils.data import DataLoader, Dataset


def loader(pairs, batch_size, size, workers, colour):
    """Returns an endless iterator of batches made by so many processes; it keeps them for its whole life."""
    options = {"shuffle": True, "drop_last": True, "persistent_workers": True, "multiprocessing_context": "spawn"}
    batches = DataLoader(_Photographs(pairs, size, colour), batch_size, num_workers=workers, **options)

    def forever():
        while True:
            yield from batches

    return forever()


class _Photographs(Dataset):
    def __init__(self, pairs, size, colour):
        height, width = size
        steps = [
            albumentations.RandomScale((-0.5, 1.0), p=1),
            albumentations.PadIfNeeded(height, width, position="top_left", fill=(124, 117, 104), fill_mask=255),
            albumentations.RandomCrop(height, width),
            albumentations.HorizontalFlip(p=0.5),
        ]
        if colour:
            brightness = (1 - 32 / 255, 1 + 32 / 255)
            steps.append(albumentations.ColorJitter(brightness, (0.5, 1.5), (0.5, 1.5), (-0.2, 0.2), p=1))
        self.pairs, self.augment = pairs, albumentations.Compose(steps)

    def __len__(self):
        return len(self.pairs)

    def __getitem__(self, index):
        cv2.setNumThreads(1)  # the processes are the parallelism
        image, mask = self.pairs[index]
        image = cv2.imread(image, cv2.IMREAD_COLOR_RGB)
        augmented = self.augment(image=image, mask=cv2.imread(mask, cv2.IMREAD_UNCHANGED))
        return np.ascontiguousarray(augmented["image"]), np.ascontiguousarray(augmented["mask"])
