r"""Train a LogicTreeNet (Petersen et al. 2024) on MNIST and save a checkpoint that lifts as it is.

    python examples/train_mnist.py --data DIR --batch 128 --lr 0.02 --steps 22000 --decay \
        --hard-steps 5000 -o mnist.pt

trains size S in half an hour on a CPU; M and L want a GPU.
DIR holds mnist_x_train.npy.xz (60000, 28, 28) uint8, mnist_y_train.npy.xz, and the same of test.
"""

from _command import main

from lgir.frontend.training.models import MNIST_SIZES, mnist_net

if __name__ == "__main__":
    raise SystemExit(
        main(
            "MNIST",
            MNIST_SIZES,
            lambda size, data: mnist_net(size),
            ("mnist_x_train", "mnist_x_test"),
        )
    )
