"""The model ``inactive-heads`` of lm-evaluation-harness: a model with heads silenced.

    inactive-heads lm-eval run --model inactive-heads --tasks piqa \\
        --model_args 'pretrained=gpt2,score=AHON (LN),threshold=0.457'

The harness (0.4.13) only knows its own models. Importing this module registers ours.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
from lm_eval import utils
from lm_eval.api.instance import Instance
from lm_eval.api.registry import register_model
from lm_eval.models.utils import postprocess_generated_text

from inactive_heads.ablation.choose_ablation import choose_ablation
from inactive_heads.ablation.generation import Decide, check_decide, check_room, generate
from inactive_heads.ablation.recorder import ZeroedRecorder
from inactive_heads.errors import UserError, naming
from inactive_heads.evaluation.lm_eval_requests import (
    NAME,
    GenerationOptions,
    GroupedRequests,
    document_of,
    name_of,
    read_batch_size,
)
from inactive_heads.evaluation.lm_eval_tokens import TokenizingModel
from inactive_heads.evaluation.log_likelihood import log_likelihoods, targets_and_best
from inactive_heads.models.batching import check_tokens
from inactive_heads.models.load import load
from inactive_heads.progress import progress_bar
from inactive_heads.provenance import versions
from inactive_heads.specs import AblationSpec, ModelSpec

MODEL_OPTIONS = {one.name for one in fields(ModelSpec)} - {"source", "device", "chat_template"}
"""The options of `load_model` that ``--model_args`` passes on."""


@register_model(NAME)
class HarnessModel(TokenizingModel):
    """A model for lm-evaluation-harness, with heads silenced according to ``--model_args``.

    Args:
        pretrained: the ``source`` of `load_model`; by default the bundled model.
        score: silences heads for each input by this score.
        threshold: the score's threshold, in its unit; required with ``score``.
        heads: silences the heads in this file, such as a report's heads.json.
        random: silences this percent of heads at random.
        placebo: silences as many heads of the same layers, drawn at random, instead.
        seed: the seed of ``random``, ``placebo`` and sampled text.
        decide: when the heads to silence are chosen while text is generated; see `generate`.
        max_gen_toks: the most tokens to generate, if the task does not say.
        batch_size: inputs per batch, or "auto".
        max_batch_size: not supported; an error if given.
        device: see `load_model`.
        options: other options of `load_model`, except ``chat_template``: the harness has its own.

    Raises:
        UserError: an argument is invalid, or the model cannot be loaded or has no tokenizer.
    """

    def __init__(
        self,
        pretrained: str | Path | int | None = None,
        *,
        score: str | None = None,
        threshold: float | None = None,
        heads: str | None = None,
        random: float | None = None,
        placebo: bool = False,
        seed: int = 0,
        decide: Decide = "every-step",
        max_gen_toks: int = 256,
        batch_size: int | str = "auto",
        max_batch_size: int | None = None,
        device: str | None = None,
        **options: Any,
    ) -> None:
        if unknown := sorted(set(options) - MODEL_OPTIONS):
            raise UserError(
                f"--model {NAME} takes no {', '.join(map(repr, unknown))} among its --model_args; "
                "it takes pretrained, score and threshold, heads, random, placebo, seed, decide, "
                f"max_gen_toks, {', '.join(sorted(MODEL_OPTIONS))}"
            )
        if max_batch_size is not None:
            raise UserError("--max_batch_size is not used: --batch_size auto takes what fits")
        self.ablation = choose_ablation(
            AblationSpec(score, threshold, heads, random, placebo, seed)
        )
        check_decide(decide)
        self.decide, self.seed, self.max_gen_toks = decide, seed, max_gen_toks
        self.batch_size = read_batch_size(batch_size)
        # The harness reads a name or revision made of digits as a number.
        revision = options.pop("revision", None)
        spec = ModelSpec(
            source=None if pretrained is None else str(pretrained),
            revision=None if revision is None else str(revision),
            # "cuda:0" is the harness's default, which stands for any device if there is no CUDA.
            device="auto" if device in (None, "cuda:0") else device,
            chat_template="off",  # the harness has its own option
            **options,
        )
        super().__init__(load(spec))
        # By task, the percent of heads silenced in each of its inputs.
        self._zeroed: dict[str, list[float]] = {}

    def loglikelihood(
        self, requests: list[Instance], disable_tqdm: bool = False
    ) -> list[tuple[float, bool]]:
        """The log-probabilities of continuations.

        Args:
            requests: each with a context and a continuation.
            disable_tqdm: not used.

        Returns:
            For each request, the continuation's log-probability, in nats, and whether greedy
            decoding gives it.

        Raises:
            UserError: a continuation has no token, or exceeds the model's context.
        """
        pairs = [self.pair_of(*request.args) for request in requests]
        names = [name_of(request) for request in requests]
        for (context, continuation), name in zip(pairs, names, strict=True):
            if not continuation:
                raise UserError(f"the tokenizer makes no token of an answer to {name}")
            check_tokens(context + continuation[:-1], self.model.shape, f"the prompt of {name}")
        found = self._loglikelihood_tokens(
            [(request.args, *pair) for request, pair in zip(requests, pairs, strict=True)],
            documents=[document_of(request) for request in requests],
        )
        for request, answer in zip(requests, found, strict=True):
            self.cache_hook.add_partial("loglikelihood", request.args, answer)
        return found

    def loglikelihood_rolling(
        self, requests: list[Instance], disable_tqdm: bool = False
    ) -> list[float]:
        """The log-probabilities of whole texts, read in windows as long as the model's context.

        Args:
            requests: each with a text.
            disable_tqdm: not used.

        Returns:
            Each text's log-probability, in nats.
        """
        windows: list[tuple[None, list[int], list[int]]] = []
        owners: list[int] = []
        for index, request in enumerate(requests):
            rolling = utils.get_rolling_token_windows(
                token_list=self.tok_encode(request.args[0]),
                prefix_token=self.prefix_token_id,
                max_seq_len=self.max_length,
                context_len=1,
            )
            own = [(None, *utils.make_disjoint_window(window)) for window in rolling]
            windows += own
            owners += [index] * len(own)
        documents = [document_of(requests[owner]) for owner in owners]
        found = self._loglikelihood_tokens(windows, documents=documents)
        totals = [0.0] * len(requests)
        for owner, (logprob, _) in zip(owners, found, strict=True):
            totals[owner] += logprob
        for request, total in zip(requests, totals, strict=True):
            self.cache_hook.add_partial("loglikelihood_rolling", request.args, total)
        return totals

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """The texts that the model generates, each up to a stop sequence.

        Args:
            requests: each with a context and ``generation_kwargs``.
            disable_tqdm: not used.

        Returns:
            Each generated text, without its context and stop sequence.

        Raises:
            UserError: a setting is not supported, or a text would exceed the model's context.
        """
        texts = [""] * len(requests)
        settings = [json.dumps(request.args[1], sort_keys=True) for request in requests]
        for setting in dict.fromkeys(settings):
            alike = [at for at, own in enumerate(settings) if own == setting]
            written = self._write([requests[at] for at in alike], json.loads(setting))
            for at, text in zip(alike, written, strict=True):
                texts[at] = text
                self.cache_hook.add_partial("generate_until", requests[at].args, text)
        return texts

    def get_model_info(self) -> dict[str, Any]:
        """Values for ``config`` in the harness's results, such as the percent of heads zeroed."""
        return {
            "percent_zeroed": {task: float(np.mean(own)) for task, own in self._zeroed.items()},
            "ablation": "none" if self.ablation is None else repr(self.ablation),
            "decide": self.decide,
            "inactive_heads": {**self.model.provenance, **versions()},
        }

    def _loglikelihood_tokens(
        self,
        requests: Sequence[tuple[Any, list[int], list[int]]],
        *,
        documents: Sequence[tuple[str, int | None]] | None = None,
        **_options: Any,
    ) -> list[tuple[float, bool]]:
        """Each continuation's log-probability, and whether greedy decoding gives it.

        Requests about one of the ``documents`` share an input if the tokens to run are the same, as
        for letters after a question.
        """
        asked = [("", None)] * len(requests) if documents is None else documents
        grouped = GroupedRequests.of([pair[1:] for pair in requests], asked)
        inputs = grouped.inputs
        recorder = None
        if self.ablation is not None:
            recorder = ZeroedRecorder(self.ablation, self.model.shape, len(inputs))
        total = sum(len(one.tokens) for one in inputs)
        with progress_bar("Log-likelihoods", total) as advance, naming(grouped.name_of):
            found = log_likelihoods(
                self.model,
                inputs,
                recorder,
                advance=advance,
                batch_size=self.batch_size,
                measure=targets_and_best,
            )
        shares = np.zeros(len(inputs)) if recorder is None else recorder.shares()
        self._note(grouped.tasks, (100 * shares).tolist())
        return grouped.answers(found)

    def _write(self, requests: Sequence[Instance], settings: dict[str, Any]) -> list[str]:
        end = str(self.tokenizer.decode([self.eot_token_id]))
        options = GenerationOptions.of(
            settings, max_gen_toks=self.max_gen_toks, end_of_text=end, seed=self.seed
        )
        most, until = options.max_new_tokens, options.until

        def stop(written: list[int]) -> bool:
            text = self.tokenizer.decode(written)
            return any(term and term in text for term in until)

        prompts = [self.tok_encode(request.args[0]) for request in requests]
        for tokens, request in zip(prompts, requests, strict=True):
            check_room(self.model, tokens, most, f"the prompt of {name_of(request)}")
        with naming(lambda row: f"the prompt of {name_of(requests[row])}"):
            found = generate(
                self.model,
                prompts,
                self.ablation,
                decide=self.decide,
                max_new_tokens=most,
                stop=stop,
                choose=options.choose,
                batch_size=self.batch_size,
            )
        self._note([document_of(request)[0] for request in requests], found.percent_zeroed.tolist())
        texts = self.tokenizer.batch_decode(found.tokens, skip_special_tokens=True)
        return [postprocess_generated_text(text, until, None) for text in texts]

    def _note(self, tasks: Sequence[str], percents: Sequence[float]) -> None:
        """Keep the percent of heads silenced in each input, and print the mean of each task."""
        for task, percent in zip(tasks, percents, strict=True):
            self._zeroed.setdefault(task, []).append(float(percent))
        if self.ablation is not None:
            own = {task: np.mean(self._zeroed[task]) for task in dict.fromkeys(tasks)}
            said = ", ".join(f"{task} {percent:.2f}%" for task, percent in own.items())
            print(f"heads zeroed: {said}")
