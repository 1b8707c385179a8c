"""`model.*`: the architecture, its sizes, and which part of a pretrained encoder is trained."""

from typing import Annotated, Literal

from pydantic import Field

from ser_platform.settings.values import Flag, Group, Real, Registered, Whole, Word

Norm = Literal["batch", "layer"]
Tuning = Literal["frozen", "top", "full", "lora"]
States = Literal["middle", "all"]
Classifier = Literal["ridge", "mlp"]
Mixing = Literal["stacked", "weighted"]
Pooling = Literal["statistics", "attention"]


class ModelSettings(Group, frozen=True):
    """The settings `model.*`."""

    name: Annotated[Word, Registered()] = "cnn_bilstm"
    """architecture"""

    hidden_size: Whole = Field(default=0, ge=0, le=1024)
    """units of the (recurrent) hidden layers, in one direction; 0 is the architecture's own size"""

    layers: Whole = Field(default=0, ge=0, le=16)
    """stacked layers or blocks; 0 is the architecture's own number"""

    width: Whole = Field(default=0, ge=0, le=256)
    """channels of the first convolution; 0 is the architecture's own width"""

    dropout: Real = Field(default=0.3, ge=0.0, le=0.9)
    """dropout before the classifier"""

    subsample: Whole = Field(default=0, ge=0, le=16)
    """frames stacked into one step; 0 is the architecture's own number"""

    chunk: Whole = Field(default=0, ge=0, le=6000)
    """frames of the chunks into which chunk_cnn_lstm cuts a clip; 0 is the published 128"""

    norm: Norm = "batch"
    """normalisation of convolutional and dense models: batch, or layer, which does not depend on the number of
    workers"""

    backbone: Word = "whisper-base-encoder"
    """pretrained speech encoder: the name of a folder in SER_PRETRAINED, a path, or a name on the Hugging Face hub"""

    tuning: Tuning = "frozen"
    """the part of the encoder that is trained: none (frozen; its outputs are computed once and stored), its last
    model.tuned_layers layers (top), all of it (full), or low-rank adapters (lora)"""

    tuned_layers: Whole = Field(default=2, ge=1, le=48)
    """encoder layers that are trained under model.tuning top"""

    lora_rank: Whole = Field(default=8, ge=1, le=256)
    """rank of the adapters under model.tuning lora"""

    states: States = "middle"
    """hidden states of a pretrained encoder that the classifier receives: all, or without the input of the first
    layer and the output of the last (middle; of a tuned encoder with the output of the last)"""

    classifier: Classifier = "mlp"
    """classifier on a pretrained encoder: ridge regression, solved in closed form on statistics of a frozen encoder
    (ridge), or a hidden layer that is trained by gradient descent (mlp)"""

    ridge: Real = Field(default=0.2, ge=1e-6, le=1e6)
    """penalty of the ridge regression, relative to the mean square of a clip's columns"""

    relevance: Real = Field(default=1.0, ge=0.0, le=4.0)
    """model.name ridge multiplies a column by its correlation with the targets, to this power; 0 weighs all alike"""

    mixing: Mixing = "stacked"
    """how the hidden states are joined: as columns (stacked), or added with one trained weight each (weighted)"""

    pooling: Pooling = "statistics"
    """how encoder frames become one row: mean and deviation of all frames and of the loud ones (statistics), or both
    weighted by attention"""

    head_size: Whole = Field(default=128, ge=4, le=4096)
    """hidden units of the classifier mlp on a pretrained encoder"""

    adversary: Real = Field(default=0.0, ge=0.0, le=10.0)
    """weight of the adversary that removes what distinguishes languages (gradient reversal); 0 is off"""

    checkpointing: Flag = False
    """compute encoder activations again in the backward pass: less memory, a third more time"""

    c: Real = Field(default=0.0, ge=0.0, le=1e6)
    """cost of a misclassified training clip in support vector machines and logistic regression, against a wide margin;
    0 chooses among a few values by cross-validation over the training speakers"""

    gamma: Real = Field(default=0.0, ge=0.0, le=1e3)
    """gamma of the kernels of svm_rbf and svm_poly; 0 is 1 / (columns x their variance)"""

    degree: Whole = Field(default=3, ge=1, le=8)
    """degree of the kernel of svm_poly"""

    trees: Whole = Field(default=100, ge=1, le=5000)
    """trees of forest, bagging and adaboost, rounds of boosting"""

    depth: Whole = Field(default=0, ge=0, le=100)
    """most levels of a tree; 0 is no limit, and 3 where trees are boosted (adaboost, boosting)"""

    leaf: Whole = Field(default=1, ge=1, le=1000)
    """fewest training clips in a leaf of a tree"""

    learning_rate: Real = Field(default=0.1, ge=1e-4, le=10.0)
    """weight with which adaboost and boosting add a tree"""

    neighbours: Whole = Field(default=5, ge=1, le=500)
    """nearest training clips that vote in knn; train.sampling can balance the classes there, class weights cannot"""
