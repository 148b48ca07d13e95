"""Made-up captions: 1,000 of them to compare tokenizers on, and plain ones to train a SentencePiece model on.

Everything here is deterministic and comes from word lists of our own; make_sd3.py and make_captions.py import it.
"""

import random

SUBJECTS = """a lighthouse|an old fisherman|two red foxes|a glass teapot|the harbour at dawn|a violinist|a field of poppies|
a snow leopard|a brass telescope|the night market|an abandoned railway station|a child with a paper kite|a bowl of cherries|
a wooden rowing boat|the cathedral|a hummingbird|three sleeping cats|a mountain hut|a clockmaker's bench|a greenhouse|
an astronaut|a stone bridge|a street musician|a terraced rice field|a coral reef|a baker|the desert road|an owl|
a bicycle with a basket|the botanist's desk|a herd of wild horses|a paper lantern|a tiled courtyard|a rain-soaked alley""".replace("\n", "").split("|")
PLACES = """by the sea|under a stormy sky|in a narrow street|beside a frozen lake|on a hill above the town|in an autumn forest|
behind a dusty window|at the edge of a canyon|near the old mill|on a wet pavement|inside a quiet library|in the first snow|
between tall pine trees|on the roof of a train|across the valley|in front of a blue wall""".replace("\n", "").split("|")
STYLES = """oil on canvas|35mm photograph|watercolour|shot with a macro lens|soft morning light|long exposure|charcoal sketch|
highly detailed, 4K|golden hour|studio lighting|muted colours|black and white|volumetric fog|shallow depth of field|
ultra high resolution, 4096 x 4096|linocut print|seen from above|strong rim light|f/1.8, ISO 100""".replace("\n", "").split("|")
VERBS = """waiting|shining|resting|reflected in the water|covered with frost|seen through mist|painted in great detail|
leaning against the wall|lit by a single candle|half hidden by leaves|drifting slowly|turned towards the viewer""".replace("\n", "").split("|")

ODD = [
    "", " ", "   \t\n  ", "a", "A", "!", "!!!", "wow! what a view!", "?", "a!b", "!a", "it's", "IT'S", "don't won't can't I'm you're we've they'll she'd",
    "the cat’s whiskers and the dogs’ tails", "rock 'n' roll", "'s", "'S 'T 'RE", "o'clock", "''''", "a'b'c",
    "1234567890", "3.14159", "1,000,000", "4096x4096", "2048×2048 px", "½ ¼ ² ³ Ⅷ ①", "٣٤٥ ३४५ 三百", "1st 2nd 3rd", "f/2.8 1/250s ISO-400", "50% off!!",
    "<|startoftext|>", "<|endoftext|>", "a<|endoftext|>b", "<|startoftext|> a cat <|endoftext|>", "<|ENDOFTEXT|>", "<|endoftext|", "< | endoftext | >",
    "<pad>", "</s>", "<unk>", "a </s> b", "<s>", "<extra_id_0>", "fill <extra_id_1> here<extra_id_99>", "<extra_id_100>", "</w>", "cat</w>", "▁", "a▁b", "▁▁a", "Ġ", "Ġcat", "\u0120hello",
    "&amp; &lt;b&gt; &quot;quoted&quot; &#39; &eacute; &nbsp;", "&amp;amp;", "<br/>", "<b>bold</b>", "a &copy 2020", "%20 + %C3%A9",
    "café", "cafe\u0301", "CAFÉ", "naïve façade", "Ångström A\u030angstro\u0308m", "ﬁne ﬂow ﬀ ﬃ", "ｆｕｌｌ ｗｉｄｔｈ　ＴＥＸＴ！", "ﾊﾝｶｸ ｶﾞ", "㎏ ㎡ ㏒ ™ ℃ №", "Ａ１！",
    "straße STRASSE ẞ", "İstanbul ıspanak I i", "ΑΒΓ αβγ ς σ Σ ΣΑΣ", "Привет, мир! ЁЖ", "dž Dž DŽ ǆ", "Ω Ω", "K K", "ſ long s",
    "你好，世界", "一只猫坐在窗边，水彩画。", "山水 画", "日本語のテキスト", "カタカナ と ひらがな", "안녕하세요 세계", "\u1112\u1161\u11ab\u1100\u1173\u11af", "สวัสดีชาวโลก", "नमस्ते दुनिया", "தமிழ்",
    "مرحبا بالعالم", "قِطَّةٌ عَلَى السَّطْحِ", "שלום עולם", "فارسی می‌خواهم", "\u202bשלום\u202c abc", "\u200fمرحبا\u200e",
    "🐈", "a 🐈‍⬛ cat", "👩‍🚀👨‍👩‍👧‍👦", "🇩🇪🇫🇷", "👍🏽", "🙂🙃", "smile:) ;-) <3", "☃️ ☃", "❤️‍🔥", "🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f", "1️⃣2️⃣", "a🐈b",
    "zero\u200bwidth", "zero\u200cwidth\u200djoin", "\ufeffbom", "word\u2060joiner", "soft\u00adhyphen", "\u200b", "\u200b\u200b a", "a\u034fb", "x\u180ey",
    "no\u00a0break", "thin\u2009space", "ideographic\u3000space", "line\u2028sep\u2029para", "tab\tnew\nline\r\ncr", "vt\x0bff\x0c", "nel\x85x", "\x1cfs\x1dgs\x1ers\x1fus", "figure\u2007narrow\u202fmedium\u205f",
    "nul\x00byte", "bell\x07", "\x01\x02\x03", "del\x7f", "esc\x1b[31mred", "c1\x80\x9f", "a\x08b", "\ufffd", "\ufffe", "\uffff", "\U0010ffff", "\ue000 private",
    "a\u0300\u0301\u0302\u0303\u0304b", "Z\u0351\u036b\u0343a\u0321l\u0335g\u0336o\u0337", "\u0301", "\u0301a", "q\u0307\u0323 q\u0323\u0307", "s\u0323\u0307 ṩ", "\u1100\u1161", "가", "\u0915\u093c क़", "𝒜𝓃 𝔉𝔯𝔞𝔨𝔱𝔲𝔯 𝟙𝟚𝟛", "ᴬᴮ ₁₂", "⅓ ⁴", "ﷺ", "…", "‥ ․", "—–-‐‑‒―", "“curly” ‘quotes’ «guillemets» „low“", "§ ¶ † ‡ • · ‰", "€ £ ¥ ₹ ₿ $100", "≤ ≥ ≠ ± ∞ ∑ √ ∂", "→ ← ↔ ⇒", "█▓▒░", "¿qué? ¡sí!", "o͜o", "ﻻ ﺍﻟﻌ",
    "_underscore_ snake_case", "camelCaseWord PascalCase", "a-b-c", "e-mail: someone@example.org", "https://example.org/a?b=c&d=e#f", "C:\\path\\file.txt", "#hashtag @mention", "a/b\\c|d", "(((masterpiece))), ((best quality:1.3)), [low]", "{a|b|c}", "a,b.c;d:e", "....", ",,,,,", "*** bold *** __x__", "~`^", "\"\"", "()[]{}<>", "+-*/=", "a  b   c    d", " leading", "trailing ", "  both  ", "\n\n", "a\n\nb",
    "a" * 300, "ab" * 200, "Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft", "pneumonoultramicroscopicsilicovolcanoconiosis", "x" * 77, "é" * 100, "猫" * 90, "🐈" * 40, "a " * 100, "! " * 90, "1" * 90, "." * 120, "- " * 80, "the " * 74 + "end", "the " * 75 + "end", "the " * 76 + "end", "<|endoftext|>" * 3,
]


def plain(rng):
    """One ordinary caption."""
    words = [rng.choice(SUBJECTS), rng.choice(VERBS), rng.choice(PLACES)]
    if rng.random() < 0.4:
        words.insert(1, f"and {rng.choice(SUBJECTS)}")
    text = " ".join(words)
    for _ in range(rng.randrange(3)):
        text += ", " + rng.choice(STYLES)
    return text[0].upper() + text[1:] + "." if rng.random() < 0.5 else text


def spoilt(rng):
    """An ordinary caption with a few odd things in odd places."""
    text = plain(rng)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(text) + 1)
        odd = rng.choice(ODD[:180])[:24]
        text = text[:at] + rng.choice(["", " ", "  "]) + odd + rng.choice(["", " "]) + text[at:]
    return text


def noise(rng):
    """Characters from anywhere below U+20000, surrogates excepted."""
    ranges = [(0, 0x80), (0x80, 0x250), (0x250, 0x800), (0x800, 0x3000), (0x3000, 0xD800), (0xE000, 0x10000), (0x10000, 0x20000)]
    return "".join(chr(rng.randrange(*rng.choice(ranges))) if rng.random() < 0.6 else rng.choice(" aeinrst") for _ in range(rng.randint(1, 30)))


def long(rng, n_words):
    """A caption of so many words."""
    text = ""
    while len(text.split()) < n_words:
        text += (", " if text else "") + plain(rng)
    return " ".join(text.split()[:n_words])


def captions():
    """The 1,000 captions, the odd ones first."""
    rng = random.Random(11)
    odd = list(dict.fromkeys(ODD))
    texts = odd + [long(rng, n) for n in (60, 70, 80, 120, 300)]
    texts += [noise(rng) for _ in range(150)] + [spoilt(rng) for _ in range(350)]
    texts += [plain(rng) for _ in range(1000 - len(texts))]
    return texts


def coined(rng):
    """A word that nobody has used, so that the pieces learnt are parts of words."""
    starts = "b bl br c ch cl d dr f fl g gr h j k l m n p pl pr qu r s sh sl st t th tr v w z".split()
    middles = "a e i o u ai ea ee ie oo ou ar er or an en in on all ell ill est ist".split()
    ends = "n s t d r l ng st nt ck le ty ing ed er ly ness ment tion ish able".split()
    return "".join(rng.choice(starts) + rng.choice(middles) for _ in range(rng.randint(1, 3))) + rng.choice(ends)


def corpus():
    """Lines to train a SentencePiece model on: ordinary captions with coined words, accents, capitals and dashes."""
    rng = random.Random(12)
    extra = "café|naïve|façade|Ångström|über|señor|déjà vu|“quoted”|it's|don't|1/250s|50%|(left)|#1|a-b|e-mail|rock & roll|why?|wow!|a; b: c|<3".split("|")
    lines = []
    for _ in range(4000):
        line = f"{plain(rng)} {coined(rng)} {coined(rng)}"
        lines.append(f"{line} {rng.choice(extra)}" if rng.random() < 0.3 else line)
    return lines
