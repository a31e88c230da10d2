"""What people utter while they listen, as transcripts spell it. Data.

None of it means "no" or "stop" in another of these languages: Polish "no", a yes, is left out.
"""

# ruff: noqa: RUF001  # words in the scripts of their languages

from __future__ import annotations

from collections.abc import Mapping

_PHRASES = {
    "any": """
        m, mh, mhm, mmhm, mm-hm, mhmm, mmhmm, mm-hmm, hm, hmm, hem, uh, uh-huh, uhuh, uhm, um, er,
        erm, ah, aha, ahem, oh, ooh, eh, huh, ha, he, ho, phew, wow, ok, okay, okey
    """,
    "de": """
        ja, jo, jaja, genau, stimmt, klar, gut, richtig, achso, ach so, ach ja, ach, na ja, naja,
        eben, alles klar, verstehe, ich verstehe, schön, super, gesundheit
    """,
    "en": """
        yeah, yep, yup, yes, right, sure, alright, all right, i see, got it, gotcha, of course,
        exactly, indeed, true, cool, nice, great, good, fine, really, makes sense, go on,
        fair enough, bless you
    """,
    "es": """
        sí, si, claro, vale, ya, bueno, bien, muy bien, exacto, ajá, eso, de acuerdo, entiendo,
        ya veo, por supuesto, ja, je
    """,
    "fr": """
        oui, ouais, d'accord, daccord, bien sûr, voilà, c'est ça, exactement, ah bon, bon, bien,
        très bien, je vois, tout à fait, entendu, euh, ben
    """,
    "it": """
        sì, si, certo, ecco, esatto, va bene, bene, d'accordo, capisco, capito, giusto, già,
        infatti, appunto
    """,
    "ja": """
        はい, うん, ええ, そう, そうですね, そうですか, なるほど, へえ, ふうん, ふーん, あー, ああ,
        はあ, ほう, わかりました, 了解, は, ふふ
    """,
    "ko": """
        네, 예, 응, 음, 어, 아, 그래, 그래요, 그렇죠, 그렇군요, 맞아요, 알겠습니다, 하, ㅋ, ㅎ
    """,
    "nl": """
        ja, jawel, precies, inderdaad, klopt, goed, oké, zeker, juist, snap ik, ja hoor
    """,
    "pl": """
        tak, jasne, dobrze, dobra, rozumiem, właśnie, racja
    """,
    "pt": """
        sim, claro, certo, pois, pois é, tá, tá bom, está bem, isso, exato, entendi, ótimo, bom,
        é, ahã, beleza
    """,
    "ru": """
        да, ага, угу, хорошо, понятно, ясно, конечно, точно, ну да, так, ладно, м, мгм, хм, ха
    """,
    "sv": """
        ja, jo, jaså, precis, just det, jaha, visst, bra, okej
    """,
    "tr": """
        evet, tamam, peki, aynen, tabii, doğru, anladım, hı hı, hıhı
    """,
    "zh": """
        嗯, 哦, 噢, 啊, 对, 是, 是的, 好, 好的, 行, 没错, 明白, 知道了, 哈, 呵, 嘿
    """,
}

BACKCHANNELS: Mapping[str, frozenset[str]] = {
    language: frozenset(" ".join(phrase.split()) for phrase in phrases.split(","))
    for language, phrases in _PHRASES.items()
}
"""Words and phrases that mean "I am listening", by language (ISO 639-1); ``"any"`` for all.

Case, punctuation and repetition do not count: "haha" is "ha", and "mmm" is "m".
"""
