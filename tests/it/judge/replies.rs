//! Answers as judges write them, in and out of the form that they were asked for: what counts as a vote, and what does not.

use jobctl::job::task::asking::Aspect;
use jobctl::judge::parse::{Choice, Reading, verdicts};

const AESTHETICS: Aspect = Aspect::VisualAesthetics;
const ADHERENCE: Aspect = Aspect::PromptAdherence;
const DETAILS: Aspect = Aspect::FineDetails;

/// What an answer to all three questions says: `1`, `2`, `=` for a draw, `?` for nothing.
fn said(text: &str, reading: Reading) -> String {
    let sign = |it: Choice| match it {
        Choice::First => '1',
        Choice::Second => '2',
        Choice::Tie => '=',
        Choice::Invalid => '?',
    };
    verdicts(text, &Aspect::ALL, reading).iter().map(|it| sign(it.choice)).collect()
}

#[track_caller]
fn check(text: &str, strict: &str, tolerant: &str) {
    assert_eq!(said(text, Reading::Tolerant), tolerant, "tolerantly: {text}");
    assert_eq!(said(text, Reading::Strict), strict, "strictly: {text}");
}

#[test]
fn the_form_that_was_asked_for_is_read_by_both() {
    let lines = "1. Visual Aesthetics: the first image is better. The reason is its warm light.\n\
        2. Prompt Adherence: the second image is better. The reason is that the first image shows no fox.\n\
        3. Fine Details: the first image is better. The reason is sharper fur. It has crisp edges.";
    check(lines, "121", "121");
    check(&lines.replace('\n', " "), "121", "121");
    check(&lines.replace('\n', "\r\n\r\n"), "121", "121");
    check(&lines.to_uppercase(), "121", "121");
    let reasons: Vec<String> = verdicts(lines, &Aspect::ALL, Reading::Strict).into_iter().map(|it| it.reason).collect();
    assert_eq!(reasons, ["its warm light.", "the first image shows no fox.", "sharper fur. It has crisp edges."]);
}

#[test]
fn markdown_brackets_quotes_and_wide_signs_do_not_matter() {
    check(
        "1. **Visual Aesthetics**: <the first image is better>. The reason is <light>.\n\
         2. **Prompt Adherence:** [the second image is better]. The reason is …\n\
         ### 3. Fine Details: \"The second image is better.\" The reason is …",
        "122",
        "122",
    );
    check(
        "1．Visual Aesthetics：the first image is better。The reason is x。\n\
         2．Prompt Adherence：the first image is better。\n3．Fine Details：the second image is better。",
        "112",
        "112",
    );
    check(
        "- *Visual Aesthetics*: **the first image is better**. The reason is a.\n\
         - *Prompt Adherence*: **the first image is better**. The reason is b.\n\
         - *Fine Details*: **the second image is better**. The reason is c.",
        "112",
        "112",
    );
    check(
        "Visual\u{a0}Aesthetics: the\u{a0}first image is better. Prompt Adherence: the second image is better. \
         Fine\u{200b} Details: the first image is better.",
        "121",
        "121",
    );
    check(
        r#"{"1. Visual Aesthetics": "the first image is better. The reason is x", "2. Prompt Adherence": "the second image is better", "Fine Details": "the first image is better"}"#,
        "121",
        "121",
    );
    check(
        "Sure! Here is my evaluation.\n\n1) Visual Aesthetics: the first image is better\n\n\
         (2) Prompt Adherence: the second image is better\n\n3: Fine Details: the second image is better",
        "122",
        "122",
    );
}

#[test]
fn other_words_for_a_side_count_if_they_name_one_alone() {
    check(
        "1. Visual Aesthetics: First image. The reason is the light in the second image is flat.\n\
         2. Prompt Adherence: Image 2.\n3. Fine Details: A",
        "???",
        "121",
    );
    check(
        "Visual Aesthetics: image 1\nPrompt Adherence: Image B is better\nFine Details: the 2nd picture",
        "???",
        "122",
    );
    check("Visual Aesthetics - the first image is better\nPrompt Adherence | Second |\nFine Details = 1", "???", "121");
    check(
        "### Visual Aesthetics\nThe first image is better.\n### Prompt Adherence\nThe second image is better.\n\
         ### Fine Details\nThe first image is better.",
        "???",
        "121",
    );
    check(
        "Visual aesthetic: I think the first image is better overall. Prompt adherence: The first image wins. \
         Fine detail: The second image has finer fur.",
        "???",
        "112",
    );
    // `a` is an article, and two sides are no choice.
    check("Visual Aesthetics: a clear win\nPrompt Adherence: A or B\nFine Details: image 1 over image 2", "???", "???");
}

#[test]
fn the_question_before_the_answer_is_passed_over() {
    check(
        "1. Visual Aesthetics: Given the prompt, which image is of higher-quality and aesthetically more pleasing? \
         The first image is better. The reason is x.\n2. Prompt Adherence: Image 1 shows a fox. Image 2 shows a dog. \
         So the first image is better.\n3. Fine Details: Which image …? The second image is better.",
        "???",
        "112",
    );
}

#[test]
fn draws_are_ties() {
    check(
        "1. Visual Aesthetics: Both images are equally good.\n2. Prompt Adherence: Neither image is better.\n\
         3. Fine Details: It is a tie. The reason is that both are sharp.",
        "???",
        "===",
    );
    check(
        "1. Visual Aesthetics: The images are similar in quality.\n2. Prompt Adherence: Both the first image and the \
         second image follow it.\n3. Fine Details: both are good, but the first image is better.",
        "???",
        "==1",
    );
}

#[test]
fn what_is_turned_doubted_or_said_both_ways_is_no_vote() {
    check(
        "1. Visual Aesthetics: the first image is worse.\n2. Prompt Adherence: I don't think the first image is better.\n\
         3. Fine Details: it is not clear whether the second image is better.",
        "???",
        "???",
    );
    // The form given back unfilled.
    check(
        "1. Visual Aesthetics: <the first image is better> or <the second image is better>. The reason is <give your reason here>.\n\
         2. Prompt Adherence: the first image is better or the second image is better.\n3. Fine Details:",
        "???",
        "???",
    );
    check(
        "Fine Details: the first image is better. The reason is x.\n\nFine Details: the second image is better.",
        "???",
        "???",
    );
    // Saying the same twice is.
    check(
        "Fine Details: the first image is better.\nIn short:\nFine Details: the first image is better.",
        "??1",
        "??1",
    );
}

#[test]
fn refusals_and_nonsense_are_no_votes() {
    for text in [
        "",
        "I'm sorry, I can't assist with that request.",
        "I'm sorry, but I can't see the first image.",
        "Visual aesthetics, prompt adherence and fine details cannot be evaluated for the first image.",
        "<html><body>502 Bad Gateway</body></html>",
        "1. 2. 3.",
        "13. Visual Aesthetics",
        "\u{1b}[2J\u{1b}]0;owned\u{7}",
        "1. The first image is better. 2. The first image is better. 3. The first image is better.",
    ] {
        check(text, "???", "???");
    }
    let long = "the first image is better ".repeat(400_000);
    check(&long, "???", "???");
}

#[test]
fn a_truncated_answer_keeps_what_it_has_said() {
    let whole = "1. Visual Aesthetics: the first image is better. The reason is x.\n\
        2. Prompt Adherence: the second image is better. The reason is y.\n3. Fine Details: the first image is better.";
    let cut_at = |words: &str| &whole[..whole.find(words).unwrap()];
    check(cut_at("The reason is y"), "12?", "12?");
    check(cut_at("image is better. The reason is y"), "1??", "12?");
    // Of every beginning no more is read than it says.
    for end in 0..whole.len() {
        let part = said(&whole[..end], Reading::Tolerant);
        assert!(part.chars().zip("121".chars()).all(|(it, right)| it == right || it == '?'), "{end}: {part}");
    }
}

#[test]
fn one_question_needs_no_heading_but_the_sentence() {
    let one = |text: &str| verdicts(text, &[DETAILS], Reading::Tolerant)[0].choice;
    assert_eq!(one("The second image is better. The reason is its fur."), Choice::Second);
    assert_eq!(one("1. Fine Details: the first image is better."), Choice::First);
    assert_eq!(one("I can't judge the first image."), Choice::Invalid);
    // Asked for two, a heading is needed, and what was not asked for is not taken for it.
    let two = verdicts("Visual Aesthetics: the first image is better.", &[ADHERENCE, DETAILS], Reading::Tolerant);
    assert!(two.iter().all(|it| it.choice == Choice::Invalid), "{two:?}");
    let mixed = "Fine Details: see below. Visual Aesthetics: the first image is better.";
    assert_eq!(verdicts(mixed, &[AESTHETICS, DETAILS], Reading::Tolerant)[1].choice, Choice::Invalid);
}

#[test]
fn reasons_are_text_and_not_without_end() {
    let text =
        format!("Fine Details: the first image is better. The reason is <script>\u{1b}[31m {}", "ä".repeat(1 << 20));
    let verdict = &verdicts(&text, &[DETAILS], Reading::Tolerant)[0];
    assert_eq!(verdict.choice, Choice::First);
    assert!(verdict.reason.starts_with("script>\u{1b}[31m ää"), "{}", &verdict.reason[..40]);
    assert!(verdict.reason.len() <= 4096);
}
