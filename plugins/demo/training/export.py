"""Write the checkpoint from the float32 weights of a training run.

    PYTHONPATH=plugins/demo python -m training.export WEIGHTS [DIRECTORY]

Without weights only the configuration files and the tokenizer are written (`--tokenizer` trains it
anew, which makes earlier weights useless).
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from training.checkpoint import load_weights, new_model, save_weights, write_configs
from training.template import CHECKPOINT, ChatTemplate
from training.tokenizer import write_tokenizer

COPIED = ("chat_template.jinja", "tokenizer.json", "tokenizer_config.json")


def export(weights: Path, directory: Path) -> None:
    """A whole checkpoint in `directory`, its weights in bfloat16."""
    directory.mkdir(parents=True, exist_ok=True)
    write_configs(directory)
    for name in COPIED:
        if directory != CHECKPOINT:
            shutil.copyfile(CHECKPOINT / name, directory / name)
    model = new_model()
    load_weights(model, weights)
    save_weights(model.state_dict(), directory)


def main() -> None:
    parser = argparse.ArgumentParser(prog="training.export", description=__doc__)
    parser.add_argument("weights", type=Path, nargs="?")
    parser.add_argument("directory", type=Path, nargs="?", default=CHECKPOINT)
    parser.add_argument("--tokenizer", action="store_true", help="train the tokenizer anew")
    options = parser.parse_args()
    if options.tokenizer:
        write_tokenizer(CHECKPOINT, ChatTemplate())
    write_configs(CHECKPOINT)
    if options.weights:
        export(options.weights, options.directory)


if __name__ == "__main__":
    main()
