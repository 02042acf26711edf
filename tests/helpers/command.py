"""The command `inactive-heads`, run in this process, and the texts of its tests."""

from typer.testing import CliRunner

from inactive_heads.cli.app import app

TEXTS = ["the cat sat on a mat", "a dog ran far and the cat sat", "the dog sat on the mat and ran"]


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])
