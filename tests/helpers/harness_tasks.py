"""lm-evaluation-harness's own MMLU tasks over the local data: its code, and our files."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import datasets
import lm_eval
from lm_eval.api.task import ConfigurableTask
from lm_eval.tasks import TaskManager


class HarnessMMLU:
    """The harness's tasks ``mmlu_SUBJECT``, or those of another kind, made one at a time."""

    def __init__(self, folder: Path) -> None:
        place = Path(lm_eval.__file__).parent / "tasks" / "mmlu"
        self._manager = TaskManager(include_path=str(place), include_defaults=False)
        self._rows = {
            split: self._by_subject(str(next(folder.rglob(f"{split}-*.parquet"))))
            for split in ("dev", "test")
        }
        self.subjects = list(self._rows["test"])

    def task(self, subject: str, *, shots: int, kind: str = ""):
        """The task as the harness builds it from its configuration."""

        def data(**_):
            rows = self._rows.items()
            return datasets.DatasetDict(
                {split: datasets.Dataset.from_list(of[subject]) for split, of in rows}
            )

        config = self._manager._entry(f"mmlu_{subject}{kind}").cfg
        task = ConfigurableTask(config=config | {"custom_dataset": data})
        task.set_config("num_fewshot", shots)
        return task

    @staticmethod
    def _by_subject(file: str) -> dict[str, list[dict]]:
        found = defaultdict(list)
        for row in datasets.load_dataset("parquet", data_files=file, split="train"):
            found[row["subject"]].append(row)
        return found
