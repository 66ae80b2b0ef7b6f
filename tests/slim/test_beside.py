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

        return speak

    said = sentences()[:2]
    first, second = beside.measured([voice("a"), voice("b")], said, 2)
    texts = [one.text for one in said]
    assert order[:2] == [("a", texts[0]), ("b", texts[0])]  # warm
    assert [name for name, _ in order[2:]] == ["a", "b", "a", "b", "b", "a", "b", "a"]
    assert [text for _, text in order[2::2]] == [*texts, *texts]
    assert len(first.clock) == len(second.processor) == 4
    assert all(one > 0 for one in first.processor)

    table = beside.table(["Piper", "ours"], [beside.Pace([0.2], [0.1]), beside.Pace([0.5], [0.15])])
    assert "| ours | 0.5 (0.5 to 0.5) | 0.15 (0.15 to 0.15) | 1.5 (1.5 to 1.5) | 1 |" in table
