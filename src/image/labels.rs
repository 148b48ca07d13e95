//! What a picture's file says of how it was made.

/// The most bytes that a JPEG's comment holds.
const MOST_BYTES: usize = 65_533;

/// The JPEG with the labels in a comment behind its first segment, as a JSON object in one line, cut off where a
/// comment ends.
pub fn in_jpeg(jpeg: &[u8], labels: &[(&str, String)]) -> Vec<u8> {
    let object: serde_json::Map<String, serde_json::Value> =
        labels.iter().map(|(key, value)| ((*key).to_owned(), value.clone().into())).collect();
    let mut text = serde_json::Value::Object(object).to_string();
    while text.len() > MOST_BYTES {
        text.pop();
    }
    // SOI, then JFIF's segment, which must stay the first.
    let at = match jpeg {
        [0xFF, 0xD8, 0xFF, 0xE0, high, low, ..] => 4 + usize::from(u16::from_be_bytes([*high, *low])),
        _ => 2,
    };
    let at = at.min(jpeg.len());
    let length = u16::try_from(text.len() + 2).expect("the text was cut to fit");
    [&jpeg[..at], &[0xFF, 0xFE], &length.to_be_bytes(), text.as_bytes(), &jpeg[at..]].concat()
}

#[cfg(test)]
mod tests {
    use super::in_jpeg;
    use crate::image::{MAX_PIXELS, Rgb, decode, jpeg, png};

    #[test]
    fn labels_change_no_pixel_and_can_be_read() {
        let mut image = Rgb::new(40, 30);
        image.pixels.iter_mut().enumerate().for_each(|(idx, it)| *it = (idx * 7) as u8);
        let labels = [("prompt", "a fox, größer".to_owned()), ("seed", "7".to_owned())];
        let plain = jpeg::encode(&image, 95).unwrap();
        let labelled = in_jpeg(&plain, &labels);
        assert_eq!(decode(&labelled, MAX_PIXELS).unwrap(), decode(&plain, MAX_PIXELS).unwrap());
        let text = String::from_utf8_lossy(&labelled).into_owned();
        assert!(text.contains(r#"{"prompt":"a fox, größer","seed":"7"}"#));

        let labelled = png::encode_labelled(&image, &labels);
        assert_eq!(decode(&labelled, MAX_PIXELS).unwrap(), image);
        assert!(String::from_utf8_lossy(&labelled).contains("a fox, größer"));
    }

    #[test]
    fn a_prompt_that_fits_no_comment_is_cut() {
        let plain = jpeg::encode(&Rgb::new(8, 8), 95).unwrap();
        let labelled = in_jpeg(&plain, &[("prompt", "ü".repeat(70_000))]);
        assert!(labelled.len() < plain.len() + 65_540);
        assert_eq!(decode(&labelled, MAX_PIXELS).unwrap().width, 8);
    }
}
