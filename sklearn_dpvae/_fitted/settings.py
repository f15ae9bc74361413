"""What a fit is asked for, as a value. Imports the settings of the objective and of training."""

from dataclasses import dataclass, fields, replace
from typing import Any, Self

from .._network.objective import ObjectiveSettings
from .._training.loop import TrainingSettings

# What max_epochs="auto" stands for, in steps of the optimizer and in passes over the cells. What
# has more to say takes longer to learn: so many steps for each feature, within limits.
_AUTO_STEPS_PER_FEATURE = 30
_AUTO_STEPS = 600, 1500
_AUTO_STEPS_FINE_TUNING = 100
_AUTO_MIN_EPOCHS = 10

# Fine-tuning on a few cells forgets the reference at the full learning rate.
_FINE_TUNING_LR = 0.1


@dataclass(frozen=True)
class NetworkSettings:
    """The parameters of the regressor that shape the networks; see there."""

    likelihood: str
    n_estimators: int
    hidden_layer_sizes: tuple[int, ...]
    activation: str
    layer_norm: bool
    dropout: float
    input_dropout: float
    input_noise: float
    hierarchy: str
    encode_batch: bool
    library: str


@dataclass(frozen=True)
class FitSettings:
    """All that `fit_reference` goes by beside the data.

    Attributes
    ----------
    levels : tuple of int
        Sizes of the latents, the map last.
    seed : int
        Of everything that is drawn.
    max_samples : float
    n_landmarks : int
        Parameters of the regressor; see there.
    network, objective, training
        More of them, by the room that they concern.
    auto_steps : int or None
        Steps that ``max_epochs="auto"`` stands for; None goes by the number of features.
    repeatable : bool
        Whether the caller chose the seed. Else a checkpoint brings its own.
    """

    levels: tuple[int, ...]
    seed: int
    max_samples: float
    n_landmarks: int
    network: NetworkSettings
    objective: ObjectiveSettings
    training: TrainingSettings
    auto_steps: int | None = None
    repeatable: bool = True

    @classmethod
    def of(cls, params: dict[str, Any], **own: Any) -> Self:
        """Settings from parameters of the regressor, each of which lands where it is named.

        Parameters
        ----------
        params : dict
            Parameters by name; those that no settings name are left aside.
        **own : dict
            The others: `levels`, `seed` and `repeatable`.
        """

        def part(kind: Any) -> Any:
            return kind(**{field.name: params[field.name] for field in fields(kind)})

        return cls(
            max_samples=params["max_samples"],
            n_landmarks=params["n_landmarks"],
            network=part(NetworkSettings),
            objective=part(ObjectiveSettings),
            training=part(TrainingSettings),
            **own,
        )

    def for_fine_tuning(self) -> Self:
        """The same for going on from a fitted model on a few cells."""
        training = replace(self.training, lr=self.training.lr * _FINE_TUNING_LR)
        return replace(self, training=training, auto_steps=_AUTO_STEPS_FINE_TUNING)

    def n_epochs(self, n_batches: int, n_features: int) -> int:
        """Passes over the cells: what "auto" needs is a number of steps."""
        if not isinstance(self.training.max_epochs, str):
            return int(self.training.max_epochs)
        fewest, most = _AUTO_STEPS
        n_steps = self.auto_steps or min(max(_AUTO_STEPS_PER_FEATURE * n_features, fewest), most)
        return max(n_steps // n_batches, _AUTO_MIN_EPOCHS)
