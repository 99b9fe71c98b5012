"""Train a LogicTreeNet (Petersen et al. 2024) on MNIST and save a checkpoint that lifts as it is.

    python examples/train_mnist.py --data DIR --size XS --steps 4800 --decay -o mnist.pt

trains in half an hour or less on a CPU; sizes S, M and L are the paper's and want a GPU.
DIR holds mnist_x_train.npy.xz (60000, 28, 28) uint8, mnist_y_train.npy.xz, and the same of test.
"""

from _command import main

from lgir.frontend.models import MNIST_SIZES, mnist_net

if __name__ == "__main__":
    raise SystemExit(
        main(
            "MNIST",
            MNIST_SIZES,
            lambda size, data: mnist_net(size),
            ("mnist_x_train", "mnist_x_test"),
        )
    )
