//! The page of models in a browser: pairs, the filter, valid HTML, and readers with other means.

use std::path::PathBuf;

use jobctl::report::{self, Options};
use serde_json::Value;

use super::browser::{self, Proxy, Scheme, View};
use super::judges::{barriers, invalid};
use super::models::findings;
use super::{WIDE, folder};

fn page(name: &str) -> PathBuf {
    let folder = folder(name);
    let options = Options { max_samples: 2, ..Options::default() };
    report::write(&findings(&folder), &folder, &options).unwrap().html
}

#[test]
fn the_page_is_valid_and_hinders_no_reader() {
    let page = page("judged");
    assert_eq!(invalid(&page), Vec::<String>::new());
    assert_eq!(barriers(&page, WIDE), Vec::<String>::new());
    assert_eq!(barriers(&page, View { width: 400, scheme: Scheme::Dark }), Vec::<String>::new());

    // The judges see what is wrong where something is.
    let broken = page.with_file_name("broken.html");
    let text = std::fs::read_to_string(&page).unwrap();
    std::fs::write(&broken, text.replace("<main>", "<main><p><div><img src=\"data:,\"></div></p>")).unwrap();
    assert!(!invalid(&broken).is_empty());
    assert!(barriers(&broken, WIDE).iter().any(|it| it.contains("image-alt")));
}

#[test]
fn pairs_follow_the_keyboard_and_the_filter_finds_words() {
    let page = page("pairs");
    let text = std::fs::read_to_string(&page).unwrap();
    let policy = text.find("<meta http-equiv").unwrap();
    let policy_end = policy + text[policy..].find('>').unwrap() + 1;
    let probe = include_str!("pairs.js");
    let probed = format!("{}{}", &text[..policy], &text[policy_end..])
        .replace("</body>", &format!("<script>{probe}</script></body>"));
    let path = page.with_file_name("probed.html");
    std::fs::write(&path, probed).unwrap();
    let dom = browser::open(&path, WIDE, &Proxy::start());
    let json =
        dom.rsplit_once("<pre id=\"result\">").expect("the probe ran to its end").1.split_once("</pre>").unwrap().0;
    let json = json.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&");
    let seen: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(seen["panels"], 6, "two samples and four originals with their reconstructions: {seen}");
    assert_eq!(seen["cut"], "inset(0px 0px 0px 25%)");
    assert!(seen["said"].as_str().unwrap().starts_with("25 %"), "{seen}");
    assert_eq!(seen["swapped"], true, "the other picture, and its details with it");
    assert_eq!(seen["linked"], true, "all details moved alike");
    assert_eq!(seen["moved"], true);
    assert_eq!(seen["held"], true, "nothing moves beyond the edge");
    assert_eq!(seen["shown"], "12 of 72");
    assert_eq!(seen["hidden"], 60);
    assert_eq!(seen["all"], 0);
    assert_eq!(seen["dialog"], serde_json::json!({ "open": true, "same": true }));
}
