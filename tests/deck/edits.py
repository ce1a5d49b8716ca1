"""The slides' programs: which slides make one, and every change that running them takes.

An `Edit` mends a slip of a slide; a `Given` supplies what a slide presumes. Nothing else is
changed. In particular these calls stay as the talk has them: `tf.initialize_all_variables`, and
`softmax_cross_entropy_with_logits(y, y_)` with the logits first, as its TensorFlow had it.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Edit:
    """Replace `old`, which stands once on the slide, by `new`."""

    slide: str
    old: str
    new: str
    reason: str


@dataclass(frozen=True)
class Given:
    """Lines that stand on no slide."""

    source: str
    reason: str


# the one change that every program has
IMPORT = ("import tensorflow as tf", "import flowc as tf")

PARENTHESIS = "a closing parenthesis is missing"
LINE_BREAK = "the slide breaks the line after `=`"
SCALAR = "a scalar is fed to a placeholder of shape [None]: it takes a list"

FEED_X_IN = Edit("running", "{x: x_in}", "{x: [x_in]}", SCALAR)
FEED_X_DATA = Edit("together", "x: x_data[i]", "x: [x_data[i]]", SCALAR)

EDITS = (
    Edit("line-3", 'name="W")', 'name="W"))', PARENTHESIS),
    Edit("line-5", 'name="W")', 'name="W"))', PARENTHESIS),
    Edit("line-5", 'name="b")', 'name="b"))', PARENTHESIS),
    FEED_X_IN,
    FEED_X_DATA,
    Edit("together", ": y_data[i]", ": [y_data[i]]", SCALAR),
    Edit("together", "y_label:", "y_train:", "the labels are called y_train three lines above"),
    Edit("bowl", "0 25 16 9 1 0", "0 25 16 9 4 1 0", "the row of y = 0 lacks its 4 at x = -2"),
    Edit("mnist-loss", "loss =\n", "loss = ", LINE_BREAK),
    Edit("mnist-optimization", "train_step =\n", "train_step = ", LINE_BREAK),
)

SESSION = Given(
    "sess = tf.Session()\nsess.run(tf.global_variables_initializer())",
    "the slide presumes a session whose variables are initialized",
)
X_IN = Given("x_in = [3]", "the slide presumes x_in; it is 3 on the slide before, fed as a list")
Y_TRAIN = Given(
    'y_train = tf.placeholder(shape=[None], dtype=tf.float32, name="y_label")',
    "the slide presumes a placeholder for the labels",
)
SAMPLES = Given(
    "import numpy as np\n"
    "x_data = np.random.RandomState(0).rand(1000)\n"
    "y_data = 0.1 * x_data + 0.3 + np.random.RandomState(1).normal(0.0, 0.002, 1000)",
    "the slide presumes samples: these follow the talk's mystery equation",
)
READ_FIT = Given(
    "    fit = sess.run([W, b])",
    "the session closes at the end of the block: the test reads the result inside it",
)
STEP = Given(
    "before = sess.run(loss, feed_dict={x: [1.0, 2.0], y_train: [0.4, 0.5]})\n"
    "sess.run(train, feed_dict={x: [0.1, 0.2], y_train: [0.31, 0.32]})",
    "the slide builds the operation and does not run it",
)
MNIST_SIZES = Given(
    "import flowc as tf\nNUM_PIXELS = 784\nNUM_CLASSES = 10",
    "the slide presumes the sizes (784 pixels, 10 digits) and the import",
)
MNIST_SETTINGS = Given(
    "LEARNING_RATE = 0.5\nTRAIN_STEPS = 1000\nBATCH_SIZE = 100",
    "the slides presume the settings of the training; `mnist` is the data that the test gives",
)
SOFTMAX_INPUTS = Given(
    "X = tf.placeholder(tf.float32, [None, 784])\n"
    "W = tf.Variable(tf.random_normal([784, 10]))\n"
    "b = tf.Variable(tf.random_normal([10]))",
    "the slide gives the shapes of its tensors as X[batch_size, 784], W[784, 10], b[10]",
)
HIDDEN_HELPERS = Given(
    "HIDDEN1_UNITS = 64\n"
    'def weight_variable(rows, columns, name="weights"):\n'
    "    start = tf.truncated_normal([rows, columns], stddev=0.1)\n"
    "    return tf.Variable(start, name=name)\n"
    'def bias_variable(size, name="biases"):\n'
    "    return tf.Variable(tf.constant(0.1, shape=[size]), name=name)",
    "the slide presumes its two helpers and the number of hidden units",
)

TRAINING: tuple[str | Given, ...] = (
    "mnist-loss",
    MNIST_SETTINGS,
    "mnist-optimization",
    SESSION,
    "mnist-training",
    "mnist-evaluation",
)
OPTIMIZER = ("optimizer-1", "optimizer-2", "optimizer-3", "optimizer-4")

PROGRAMS: dict[str, tuple[str | Given, ...]] = {
    "build": ("build",),
    "run": ("run-1", "run-2"),
    "variable-loop": ("variable-loop",),
    "line-1": ("line-1",),
    "line-2": ("line-2",),
    "line-3": ("line-3",),
    "line-4": ("line-4",),
    "line-5": ("line-5",),
    "running": ("line-5", SESSION, "running"),
    "inference": (X_IN, "inference"),
    "optimizer": ("line-5", Y_TRAIN, "loss", *OPTIMIZER, SESSION, STEP),
    "together": ("line-5", Y_TRAIN, SAMPLES, "together", READ_FIT),
    "mnist-softmax": (MNIST_SIZES, "placeholders", "mnist-inference", *TRAINING),
    "softmax": (MNIST_SIZES, SOFTMAX_INPUTS, "softmax", SESSION),
    "mnist-hidden": (MNIST_SIZES, "placeholders", HIDDEN_HELPERS, "hidden", *TRAINING),
}

# slides that hold numbers or names, which the tests read, and no program
NO_PROGRAM = {"bowl", "optimizers", "convolution", "convolved", "pooled"}
