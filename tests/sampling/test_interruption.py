"""SIGINT reaches the job even where Python drops exceptions."""

from __future__ import annotations

import signal

import pytest

from vdiffsr_jax.sampling.interruption import Interruption


class Dying:
    def __del__(self) -> None:
        signal.raise_signal(signal.SIGINT)


def test_it_raises_at_once():
    with pytest.raises(KeyboardInterrupt), Interruption():
        signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_what_python_drops_is_found_at_the_next_check():
    with Interruption() as interruption:
        Dying()
        assert interruption.asked
        with pytest.raises(KeyboardInterrupt):
            interruption.check()


def test_a_process_that_ignores_it_goes_on_ignoring():
    previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with Interruption() as interruption:
            signal.raise_signal(signal.SIGINT)
            interruption.check()
    finally:
        signal.signal(signal.SIGINT, previous)
