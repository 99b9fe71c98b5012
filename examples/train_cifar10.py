"""Train a LogicTreeNet (Petersen et al. 2024) on CIFAR-10; the checkpoint lifts as it is.

    python examples/train_cifar10.py --data DIR --size S -o cifar10.pt

DIR holds cifar10_q5_x_train_0.npy.xz ... (N, 32, 32, 3) uint8, in parts or whole, and
cifar10_y_train.npy.xz, and the same of test. Pixels may have any number of bits; the thresholds
follow the largest value.
"""

from _command import main

from lgir.frontend.training.models import CIFAR10_SIZES, cifar10_net

if __name__ == "__main__":
    raise SystemExit(
        main(
            "CIFAR-10",
            CIFAR10_SIZES,
            lambda size, data: cifar10_net(size, high=int(data.x.max())),
            ("cifar10_q5_x_train", "cifar10_q5_x_test"),
        )
    )
