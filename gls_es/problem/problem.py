"""Certified training as an EvoTorch problem: what a user subclasses, and every searcher runs on.

The solution is a network's flat weight vector θ; the fitness, to be minimised, is the mean robust cross-entropy of a
minibatch under a convex relaxation (arXiv 2403.07095, section 3). All members of a generation see the same images and
the same eps, chosen as pure functions of the seed and the generation.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from pathlib import PurePath
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from gls_es.basics.checks import existing_device, real_number, seed_number, whole_number
from gls_es.basics.modes import ordinary_modes
from gls_es.basics.seeding import derived_seed, generator, minibatch_indices
from gls_es.basics.threads import over_members
from gls_es.bounds import Plan, method_named, perturbation_of
from gls_es.data import Dataset, Split
from gls_es.errors import ConfigError
from gls_es.fitness import (
    Minibatch,
    Stage,
    active_loss,
    chosen,
    image_losses,
    loss_named,
    mean_gradient,
    member_losses,
)
from gls_es.network import Network
from gls_es.network.batchnorm import has_statistics
from gls_es.network.initialisation import INITIALISATIONS, initialise
from gls_es.problem.arguments import check_actors, check_norm, held, plain_argument
from gls_es.problem.evotorch_classes import SolutionBatch
from gls_es.problem.quiet import settings_untold
from gls_es.problem.recipe import Recipe
from gls_es.problem.statistics import NormalizedProblem


class CertifiedTrainingProblem(NormalizedProblem):
    """Find weights with a small robust loss. Subclass it, write :meth:`make_network` and :meth:`make_data`, and run it.

    The same object serves ``gls_es.train``, EvoTorch's own searchers (``PGPE(problem, ...)``) and ``gls_es.RGS``.

    Class attributes that a subclass may set (and constructor arguments of the same names override):
        eps: radius of the L∞ box in [0, 1] pixel units, for training and certification; or radii per channel or pixel,
            a list or a tensor (``gls_es.bounds.perturbation_of``). The attribute is then the largest.
        norm: "linf", or "l2" for Euclidean balls (relaxations with ``balls``, losses without attacks).
        method: the relaxation.
        recipes: hyper-parameters by searcher name, for ``gls-es train``.
        radii: radii that are usual for the data, for the list of problems.
        data_source: where the images come from, for the list of problems.

    Args:
        eps: overrides the class' radius or radii; 0 <= eps <= 1.
        method: overrides the class' relaxation.
        norm: overrides the class' norm.
        loss: a name from ``gls_es.fitness.LOSSES``, with the coefficients of :class:`gls_es.fitness.Stage`. Some losses
            have a relaxation of their own, which takes the place of the class' if ``method`` is not given.
        batch_size: images per generation.
        natural_weight: weight κ of the natural cross-entropy, in [0, 1].
        l1: weight of Σ|θ|, >= 0.
        initial_weights: "default" as ``make_network`` leaves them, "ibp", or "ibp-hidden" for all layers but the
            last (see :func:`gls_es.network.initialisation.initialise`).
        seed: chooses initial weights, minibatches and (through ``manual_seed``) the searcher's noise.
        device: where data and populations live.
        data_root: folder of datasets that are not built in.
        validation: how many of the last training images are kept out of training, to choose hyper-parameters by; the
            figures during training are then about these, and the test images stay unseen.
        memory_budget: bytes that evaluating one chunk of the population may take, about.
        num_actors: EvoTorch's; Ray actors to spread the population over.
        num_gpus_per_actor: EvoTorch's.
        actor_config: EvoTorch's.

    Raises:
        ConfigError: an argument that makes no sense.
        UnsupportedNetworkError: the network holds something without bounds.
        DataError: the data are missing or damaged.
    """

    eps: Any = 0.1
    method: str = "crown"
    norm: str = "linf"
    radii: ClassVar[tuple[float, ...]] = ()
    data_source: ClassVar[str] = ""
    recipes: ClassVar[dict[str, Recipe]] = {}

    _input_shape: tuple[int, ...] | None = None
    _choice: tuple[Tensor, Tensor] | None = None

    def __new__(cls, *args: Any, **kwargs: Any) -> CertifiedTrainingProblem:
        """Remember the arguments of the outermost constructor: a checkpoint rebuilds the problem from them."""
        self: CertifiedTrainingProblem = super().__new__(cls)
        names = list(inspect.signature(cls.__init__).parameters)[1:]
        given = dict(zip(names, args, strict=False)) | kwargs
        self.arguments = {name: plain_argument(value) for name, value in given.items()}
        return self

    @classmethod
    def rebuilt(cls, arguments: dict[str, Any], input_shape: tuple[int, ...] | None = None) -> CertifiedTrainingProblem:
        """The problem that was made with ``arguments``.

        Args:
            arguments: of the constructor, by name.
            input_shape: the images' shape, to do without the data; None loads them.

        Raises:
            ConfigError: the class does not take these arguments (any more).
        """
        problem = cls.__new__(cls, **arguments)
        problem._input_shape = None if input_shape is None else tuple(input_shape)
        try:
            problem.__init__(**arguments)  # type: ignore[misc]
        except TypeError as error:
            raise ConfigError(f"{cls.__name__} cannot be rebuilt from {arguments}: {error}.") from error
        return problem

    @ordinary_modes()
    def __init__(
        self,
        *,
        eps: Any = None,
        method: str | None = None,
        norm: str | None = None,
        loss: str = "robust",
        batch_size: int = 64,
        natural_weight: float = 0.0,
        l1: float = 0.0,
        initial_weights: str = "default",
        seed: int = 0,
        device: str | torch.device = "cpu",
        data_root: str | None = None,
        validation: int = 0,
        memory_budget: int = 1 << 30,
        num_actors: int | None = None,
        num_gpus_per_actor: int | float | None = None,
        actor_config: dict[str, Any] | None = None,
    ) -> None:
        self.norm = type(self).norm if norm is None else norm
        self.loss = loss_named(loss).name
        usual = loss_named(loss).method or type(self).method
        self.method = method_named(usual if method is None else method).name
        self.run_seed = seed_number(seed)
        self.batch_size = whole_number("batch_size", batch_size, least=1)
        self.natural_weight = real_number("natural_weight", natural_weight, "between 0 and 1", least=0, most=1)
        self.l1 = real_number("l1", l1, "at least 0", least=0)
        known = isinstance(initial_weights, str) and initial_weights in INITIALISATIONS
        self.initial_weights = held("initial_weights", initial_weights, known, f"one of {', '.join(INITIALISATIONS)}")
        self.memory_budget = whole_number("memory_budget", memory_budget, least=1 << 20)
        self.validation = whole_number("validation", validation, least=0)
        held("data_root", data_root, isinstance(data_root, str | PurePath | None), "the path of a folder")
        self.data_root = None if data_root is None else str(data_root)
        existing_device(device)
        check_actors(num_actors, num_gpus_per_actor, actor_config)
        self._data: Dataset | None = None
        self._resident: Split | None = None
        self._batch: Minibatch | None = None
        self.network = self._initial_network()
        radii = type(self).eps if eps is None else eps
        self.eps, self.perturbation = perturbation_of(radii, self.norm, self.network.input_shape)
        check_norm(self.norm, self.method, self.loss)
        self.generation = -1
        self._begun = self._sampling = False
        self.stage = Stage(self.eps, self.natural_weight, self.method, self.loss)
        self.stages: Callable[[int], Stage] | None = None
        """The stage of every generation; None: always the full eps."""
        with settings_untold():
            super().__init__(
                "min",
                solution_length=self.network.num_parameters,
                dtype=torch.float32,
                device=device,
                store_solution_stats=False,
                num_actors=num_actors,
                num_gpus_per_actor=num_gpus_per_actor,
                actor_config=actor_config,
            )
        self.manual_seed(derived_seed(self.run_seed, "population") % 2**31)

    # -- what a subclass writes ---------------------------------------------------------------------------------------

    def make_network(self) -> nn.Module:
        """The network to train: from an image in [0, 1] to logits, with its random initial weights."""
        raise ConfigError(f"{type(self).__name__} must define make_network().")

    def make_data(self) -> Dataset:
        """The images to train and to certify on; called once in each process that needs them."""
        raise ConfigError(f"{type(self).__name__} must define make_data().")

    @classmethod
    def find_data(cls, root: str | None = None) -> str:  # noqa: ARG003 - for subclasses
        """Where :meth:`make_data` would find the data, without reading them; by default ``data_source``.

        Args:
            root: as ``data_root``.

        Raises:
            DataError: they are not there; the message says how to get them.
        """
        return cls.data_source

    def augment(self, images: Tensor, generator: torch.Generator) -> Tensor:  # noqa: ARG002 - for subclasses
        """The generation's images, moved or mirrored at random; the same for every member. By default as they are.

        Args:
            images: (B, *input_shape) in [0, 1].
            generator: on the CPU, seeded by the problem's seed and the generation; draw from nothing else.

        Returns:
            (B, *input_shape) in [0, 1].
        """
        return images

    def losses(self, values: Tensor) -> Tensor:
        """Losses of members on the current minibatch; differentiable where the relaxation is.

        Override it for another fitness.

        Args:
            values: (n, L) weights.

        Returns:
            (n,): mean loss over the minibatch, with the stage's regulariser, plus l1 Σ|θ|.
        """
        values = values.as_subclass(Tensor)  # a searcher's status holds evotorch's read-only kind
        return member_losses(self.network, self.minibatch, values, l1=self.l1, plan=self._plan())

    def parameterize_net(self, parameters: Tensor) -> nn.Module:
        """A module with these weights, as EvoTorch's ``NEProblem`` has it: ``network.module(parameters)``.

        Args:
            parameters: (L,), ``searcher.status["center"]`` say, or a ``Solution``.
        """
        return self.network.module(parameters)

    # -- generations --------------------------------------------------------------------------------------------------

    @property
    def data(self) -> Dataset:
        """The dataset, loaded when first asked for."""
        if self._data is None:
            data = self.make_data()
            if not isinstance(data, Dataset):
                raise ConfigError(f"{type(self).__name__}.make_data() must return a gls_es.Dataset, not {data!r}.")
            self._data = data.with_validation(self.validation) if self.validation else data
        return self._data

    @property
    def _training_images(self) -> Split:
        """The training split on the device that evaluates, as it is stored (bytes); moved there once."""
        if self._resident is None:
            self._resident = self.data.train.to(str(self.aux_device))
        return self._resident

    @property
    def minibatch(self) -> Minibatch:
        """The current generation's images and boxes."""
        if self._batch is None:
            times = 1 if self._choice is None else self.stage.candidates
            self._batch = self._minibatch_of(self._images(times), self.stage, self._choice)
        return self._batch

    @torch.no_grad()
    def choose_images(self, center: Tensor) -> None:
        """Let the generation's minibatch be chosen from the stage's candidates, by their losses at the center.

        A training loop calls it after :meth:`begin`. Without candidates, or without this call, images come as they are.

        Args:
            center: (L,).
        """
        stage = self.stage
        if stage.candidates == 1:
            return
        images = self._images(stage.candidates)
        cheap = dataclasses.replace(stage, method=stage.stand_in or stage.method, stand_in="")
        many = self._minibatch_of(images, cheap)
        losses = image_losses(self.network, many, center.to(self.aux_device)[None], plan=self._plan())[0]
        size = min(self.batch_size, len(self._training_images))
        self._choice = chosen(losses, size, generator(self.run_seed, "choice", max(self.generation, 0)))
        self._batch = self._minibatch_of(images, stage, self._choice)

    def _images(self, times: int) -> tuple[Tensor, Tensor]:
        """So many minibatches' images of the generation, augmented, and their labels."""
        split, numbered = self._training_images, max(self.generation, 0)
        indices = minibatch_indices(self.run_seed, numbered, size=self.batch_size * times, total=len(split))
        images, labels = split.batch(indices, device=str(self.aux_device), dtype=torch.float32)
        return self.augment(images, generator(self.run_seed, "augmentation", numbered)), labels

    def _minibatch_of(
        self, images: tuple[Tensor, Tensor], stage: Stage, choice: tuple[Tensor, Tensor] | None = None
    ) -> Minibatch:
        """A minibatch of these images, or of those among them that were chosen."""
        pixels, labels = images
        weights = None
        if choice is not None:
            rows, weights = choice
            pixels, labels = pixels[rows.to(pixels.device)], labels[rows.to(labels.device)]
        seed = derived_seed(self.run_seed, "attack", max(self.generation, 0)) if active_loss(stage).attacks else None
        return Minibatch.prepare(
            self.network, pixels, labels, stage, attack_seed=seed, perturbation=self.perturbation, weights=weights
        )

    def _enter(self, generation: int, stage: Stage | None = None) -> None:
        self.generation = int(generation)
        if stage is not None:
            self.stage = stage
        elif self.stages is not None:
            self.stage = self.stages(self.generation)
        self._batch = self._choice = None

    # -- evaluation ---------------------------------------------------------------------------------------------------

    def _losses_and_gradient(self, values: Tensor) -> tuple[Tensor, Tensor]:
        if type(self).losses is CertifiedTrainingProblem.losses:
            return mean_gradient(
                self.network, self.minibatch, values, l1=self.l1, budget=self.memory_budget, plan=self._plan()
            )
        leaf = values.detach().clone().requires_grad_()
        with torch.enable_grad():
            losses = self.losses(leaf)
            (gradient,) = torch.autograd.grad(losses.sum(), leaf)
        finite = torch.isfinite(losses) & torch.isfinite(gradient).all(1)
        losses = losses.detach().masked_fill(~finite, torch.nan)
        return losses, gradient[finite].sum(0) / max(int(finite.sum()), 1)

    @torch.no_grad()
    def _evaluate_batch(self, batch: SolutionBatch) -> None:
        values = batch.access_values(keep_evals=True).to(self.aux_device)
        chunk = max(1, self.memory_budget // (16 * values[0].numel() * values.element_size()))
        self.minibatch  # noqa: B018 - made before threads ask for it
        threaded = values.device.type == "cpu" and type(self).losses is CertifiedTrainingProblem.losses
        parts = values.split(chunk)
        losses = torch.cat([over_members(self.losses, p) if threaded else self.losses(p) for p in parts])
        batch.set_evals(losses.to(batch.device))

    def _status(self, nonfinite: int) -> dict[str, Any]:
        return {"nonfinite": nonfinite, "eps": self.stage.eps, "generation": self.generation}

    def _plan(self) -> Plan:
        plan = Plan.default(torch.device(self.aux_device).type)
        return dataclasses.replace(plan, bytes=min(plan.bytes, self.memory_budget // 16))

    # -- EvoTorch -----------------------------------------------------------------------------------------------------

    def _fill(self, values: Tensor) -> None:
        """Initial solutions are initial networks: the first one is ``network``, the others are made anew."""
        for index in range(len(values)):
            values[index] = self.network.parameter_vector() if index == 0 else self._fresh_weights(index)

    def _initial_network(self) -> Network:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derived_seed(self.run_seed, "initial weights"))
            module = self.make_network()
            if not isinstance(module, nn.Module):
                raise ConfigError(f"{type(self).__name__}.make_network() must return an nn.Module, not {module!r}.")
            initialise(module, self.initial_weights)
        if not all(bool(torch.isfinite(parameter).all()) for parameter in module.parameters()):
            raise ConfigError(f"{type(self).__name__}.make_network() returns weights that are not finite numbers.")
        if self._input_shape is not None:
            return Network(module, self._input_shape)
        network = Network(module, self.data.input_shape)
        if network.num_classes < self.data.num_classes:
            raise ConfigError(
                f"{type(self).__name__}: the network has {network.num_classes} logits, the data "
                f"{self.data.num_classes} classes (labels are numbers from 0: the greatest one counts)."
            )
        return network

    def _fresh_weights(self, index: int) -> Tensor:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derived_seed(self.run_seed, "initial weights", index))
            return Network(
                initialise(self.make_network(), self.initial_weights), self.network.input_shape
            ).parameter_vector()

    @property
    def _nonserialized_attribs(self) -> list[str]:
        return ["_data", "_resident", "_batch", "_choice", "_sampling", "_share"]

    def _make_sync_data_for_actors(self) -> dict[str, Any]:
        buffers = self.network.buffers() if has_statistics(self.network) else {}
        return {"generation": self.generation, "stage": self.stage, "choice": self._choice, "buffers": buffers}

    def _use_sync_data_from_main(self, received: dict[str, Any]) -> None:
        self._enter(received["generation"], received["stage"])
        self._choice = received["choice"]
        self.manual_seed(derived_seed(self.run_seed, "actor", self.generation, str(self.actor_index)) % 2**31)
        self.network.load_buffers(received["buffers"])
