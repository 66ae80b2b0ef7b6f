"""The table of voices side by side: who speaks when, and what it is beside the first."""

from gsvexport.demo import sentences
from gsvexport.slim import beside


def test_voices_take_turns_and_are_compared_sentence_by_sentence():
    order = []

    def voice(name):
        def speak(sentence):
            order.append((name, sentence.text))
            sum(range(20_000))
            return 2.0

        def begin(sentence):
            order.append((f"{name} begins", sentence.text))

        return beside.Voice(speak, begin)

    said = sentences()[:2]
    first, second = beside.measured([voice("a"), voice("b")], said, 2)
    texts = [one.text for one in said]
    whole = [one for one in order if "begins" not in one[0]]
    assert order[1::2] == [(f"{name} begins", text) for name, text in whole]  # each after the whole sentence
    assert whole[:2] == [("a", texts[0]), ("b", texts[0])]  # warm
    assert [name for name, _ in whole[2:]] == ["a", "b", "a", "b", "b", "a", "b", "a"]
    assert [text for _, text in whole[2::2]] == [*texts, *texts]
    assert len(first.clock) == len(second.processor) == len(first.first) == 4
    assert all(one > 0 for one in first.processor)

    paces = [beside.Pace([0.2], [0.1], [1.0]), beside.Pace([0.5], [0.15], [0.25])]
    row = "| ours | 0.5 (0.5 to 0.5) | 0.15 (0.15 to 0.15) | 1.5 (1.5 to 1.5) | 0.25 (0.25 to 0.25) | 1 |"
    assert row in beside.table(["Piper", "ours"], paces)
