"""The form of a question that stands in the keys of its answers and its vector, and that the models read."""

from __future__ import annotations


def question_in_key(question: str, ignore_case: bool = True) -> str:
    """One form for a question in other capitals, with or without a question mark at its end.

    The models that come with Keymiss are uncased, so small letters give them the very same tokens. They are
    made letter by letter, as the tokenizer makes them: Python's `str.lower` of a whole word has another sigma
    at its end. `ignore_case`: False for a reader that tells capitals apart. White space is
    `keymiss.api.http.question_text.clean_question`'s part.

    The form ends with one question mark, as nearly all questions do that the reader was trained on. On the
    1,001 held-out questions of SQuADShifts' new Wikipedia part it costs nothing; docs/api.md has the figures.
    """
    if ignore_case:
        question = "".join(map(str.lower, question))
    return f"{question.rstrip('? ')}?"
