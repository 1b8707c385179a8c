"""`model.*`: the architecture, its sizes, and what of a pretrained encoder is trained."""

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

    name: Annotated[Word, Registered()] = Field(default="cnn_bilstm", description="architecture")
    hidden_size: Whole = Field(
        default=0,
        description="units of the (recurrent) hidden layers, in one direction; 0 is the architecture's own size",
        ge=0,
        le=1024,
    )
    layers: Whole = Field(
        default=0,
        description="stacked layers or blocks; 0 is the architecture's own number",
        ge=0,
        le=16,
    )
    width: Whole = Field(
        default=0,
        description="channels of the first convolution; 0 is the architecture's own width",
        ge=0,
        le=256,
    )
    dropout: Real = Field(default=0.3, description="dropout before the classifier", ge=0.0, le=0.9)
    subsample: Whole = Field(
        default=0,
        description="frames stacked into one step; 0 is the architecture's own number",
        ge=0,
        le=16,
    )
    chunk: Whole = Field(
        default=0,
        description="frames of the chunks into which chunk_cnn_lstm cuts a clip; 0 is the published 128",
        ge=0,
        le=6000,
    )
    norm: Norm = Field(
        default="batch",
        description="normalisation of convolutional and dense models: batch, or layer, which is the same on any "
        "number of workers",
    )
    backbone: Word = Field(
        default="whisper-base-encoder",
        description="pretrained speech encoder: a folder's name under SER_PRETRAINED, a path, or a name of the "
        "Hugging Face hub",
    )
    tuning: Tuning = Field(
        default="frozen",
        description="what of the encoder is trained: nothing (frozen; its outputs are computed once and stored), "
        "its last model.tuned_layers layers (top), all of it (full), or low-rank adapters (lora)",
    )
    tuned_layers: Whole = Field(
        default=2,
        description="encoder layers that are trained under model.tuning top",
        ge=1,
        le=48,
    )
    lora_rank: Whole = Field(default=8, description="rank of the adapters under model.tuning lora", ge=1, le=256)
    states: States = Field(
        default="middle",
        description="hidden states of a pretrained encoder that are heard: all, or without what enters the first "
        "layer and what leaves the last (middle; of an encoder that is tuned the last one too)",
    )
    classifier: Classifier = Field(
        default="mlp",
        description="classifier on a pretrained encoder: ridge regression, fitted at once on statistics of a "
        "frozen encoder (ridge), or a hidden layer that is trained (mlp)",
    )
    ridge: Real = Field(
        default=0.2,
        description="penalty of the ridge regression, against the mean square of a clip's columns",
        ge=1e-6,
        le=1e6,
    )
    relevance: Real = Field(
        default=1.0,
        description="model.name ridge weighs a column by its correlation with what is learnt, to this power; 0 "
        "weighs all alike",
        ge=0.0,
        le=4.0,
    )
    mixing: Mixing = Field(
        default="stacked",
        description="how these layers are joined: side by side (stacked), or added with one learnt weight each "
        "(weighted)",
    )
    pooling: Pooling = Field(
        default="statistics",
        description="how encoder frames become one row: mean and deviation of all and of the loud ones "
        "(statistics), or both weighted by attention",
    )
    head_size: Whole = Field(
        default=128,
        description="hidden units of the classifier on a pretrained encoder, where it has any (mlp)",
        ge=4,
        le=4096,
    )
    adversary: Real = Field(
        default=0.0,
        description="weight of the adversary that must not tell languages apart (gradient reversal); 0 is off",
        ge=0.0,
        le=10.0,
    )
    checkpointing: Flag = Field(
        default=False,
        description="compute encoder activations again in the backward pass: less memory, a third more time",
    )
    c: Real = Field(
        default=0.0,
        description="how much a wrong training clip costs support vector machines and logistic regression, against "
        "a wide margin; 0 takes the best of a few by cross-validation over the training speakers",
        ge=0.0,
        le=1e6,
    )
    gamma: Real = Field(
        default=0.0,
        description="width of the kernels of svm_rbf and svm_poly: gamma; 0 is 1 / (columns x their variance)",
        ge=0.0,
        le=1e3,
    )
    degree: Whole = Field(default=3, description="degree of the kernel of svm_poly", ge=1, le=8)
    trees: Whole = Field(
        default=100,
        description="trees of forest, bagging and adaboost, rounds of boosting",
        ge=1,
        le=5000,
    )
    depth: Whole = Field(
        default=0,
        description="most levels of a tree; 0 is no limit, and 3 where trees are boosted (adaboost, boosting)",
        ge=0,
        le=100,
    )
    leaf: Whole = Field(default=1, description="fewest training clips in a leaf of a tree", ge=1, le=1000)
    learning_rate: Real = Field(
        default=0.1,
        description="share of a tree that adaboost and boosting add",
        ge=1e-4,
        le=10.0,
    )
    neighbours: Whole = Field(
        default=5,
        description="nearest training clips that vote in knn, which train.sampling can balance but class weights "
        "cannot",
        ge=1,
        le=500,
    )
