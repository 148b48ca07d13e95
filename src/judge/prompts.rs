//! The questions. Their words are those of Table 11 of "Diffusion-4K" (Zhang et al., CVPR 2025), which are data here.

use crate::job::Hash;
use crate::job::task::asking::Aspect;

/// What a captioner is asked for.
pub const CAPTION: &str = "Directly describe with brevity and as brief as possible the scene or characters without any \
                           introductory phrase like 'This image shows', 'In the scene', 'This image depicts' or similar \
                           phrases. Just start describing the scene please.";

/// Where the prompt of the pictures goes.
const PLACE: &str = "<prompt>";

/// A question about two pictures.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Question {
    /// Who the judge is.
    pub system: String,
    /// What is asked.
    pub text: String,
}

/// What is asked on an aspect.
fn asked(aspect: Aspect, has_prompt: bool) -> &'static str {
    match (aspect, has_prompt) {
        (Aspect::VisualAesthetics, true) => {
            "Given the prompt, which image is of higher-quality and aesthetically more pleasing?"
        }
        (Aspect::VisualAesthetics, false) => "Which image is of higher-quality and aesthetically more pleasing?",
        (Aspect::PromptAdherence, _) => {
            "Which image looks more representative to the text shown above and faithfully follows it?"
        }
        (Aspect::FineDetails, _) => {
            "Which image more accurately represents the fine visual details? Focus on clarity, sharpness, and texture. \
             Assess the fidelity of fine elements such as edges, patterns, and nuances in color. The more precise \
             representation of these details is preferred! Ignore other aspects."
        }
    }
}

/// What the system text calls an aspect.
fn called(aspect: Aspect) -> &'static str {
    match aspect {
        Aspect::VisualAesthetics => "visual aesthetics",
        Aspect::PromptAdherence => "prompt coherence",
        Aspect::FineDetails => "fine details",
    }
}

/// The question about two pictures on these aspects, of pictures with a prompt or without. All three aspects with a prompt
/// are the paper's question word for word; of fewer, its parts.
pub fn question(aspects: &[Aspect], prompt: Option<&str>) -> Question {
    let mut question = template(aspects, prompt.is_some());
    if let Some(prompt) = prompt {
        // The prompt goes in last, so that nothing in it is taken for a place.
        question.text = question.text.replacen(PLACE, prompt, 1);
    }
    question
}

/// The question's hash without the prompt: it is in every task, so that other words are other work.
pub fn question_hash(aspects: &[Aspect], has_prompt: bool) -> Hash {
    let question = template(aspects, has_prompt);
    Hash::of_value(&("preference", question.system, question.text))
}

fn template(aspects: &[Aspect], has_prompt: bool) -> Question {
    let called: Vec<&str> = aspects.iter().map(|it| called(*it)).collect();
    let list = match called.as_slice() {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [most @ .., last] => format!("{} and {last}", most.join(", ")),
    };
    let when = if has_prompt { "When presented with a specific caption, it" } else { "It" };
    let system = format!(
        "As an AI visual assistant, you are analyzing two specific images. {when} is required to evaluate {list}."
    );
    let mut text = String::new();
    if has_prompt {
        text.push_str(&format!("The caption for the two images is: {PLACE}. "));
    }
    text.push_str("Please answer the following questions: ");
    for (idx, aspect) in aspects.iter().enumerate() {
        text.push_str(&format!("{}. {}: {} ", idx + 1, aspect.title(), asked(*aspect, has_prompt)));
    }
    text.push_str("Please respond me strictly in the following format: ");
    for (idx, aspect) in aspects.iter().enumerate() {
        text.push_str(&format!(
            "{}. {}: <the first image is better> or <the second image is better>. The reason is <give your reason here>. ",
            idx + 1,
            aspect.title()
        ));
    }
    Question { system, text: text.trim_end().to_owned() }
}

#[cfg(test)]
mod tests {
    use super::{Aspect, question, question_hash};

    /// The paper's text, its places for answers in angle brackets.
    const PAPER: &str = "The caption for the two images is: a red fox. Please answer the following questions: \
        1. Visual Aesthetics: Given the prompt, which image is of higher-quality and aesthetically more pleasing? \
        2. Prompt Adherence: Which image looks more representative to the text shown above and faithfully follows it? \
        3. Fine Details: Which image more accurately represents the fine visual details? Focus on clarity, sharpness, and \
        texture. Assess the fidelity of fine elements such as edges, patterns, and nuances in color. The more precise \
        representation of these details is preferred! Ignore other aspects. \
        Please respond me strictly in the following format: \
        1. Visual Aesthetics: <the first image is better> or <the second image is better>. The reason is <give your reason here>. \
        2. Prompt Adherence: <the first image is better> or <the second image is better>. The reason is <give your reason here>. \
        3. Fine Details: <the first image is better> or <the second image is better>. The reason is <give your reason here>.";

    #[test]
    fn three_aspects_are_the_papers_question() {
        let question = question(&Aspect::ALL, Some("a red fox"));
        assert_eq!(question.text, PAPER);
        let system = "As an AI visual assistant, you are analyzing two specific images. When presented with a specific \
            caption, it is required to evaluate visual aesthetics, prompt coherence and fine details.";
        assert_eq!(question.system, system);
    }

    #[test]
    fn a_prompt_is_put_in_once_whatever_it_says() {
        let asked = question(&[Aspect::FineDetails], Some("<prompt> <prompt>"));
        assert!(asked.text.starts_with("The caption for the two images is: <prompt> <prompt>. "), "{}", asked.text);
        assert!(!question(&[Aspect::FineDetails], None).text.contains("caption"));
    }

    #[test]
    fn other_words_have_another_hash() {
        let all = question_hash(&Aspect::ALL, true);
        assert_ne!(all, question_hash(&Aspect::ALL, false));
        assert_ne!(all, question_hash(&[Aspect::FineDetails], true));
    }
}
