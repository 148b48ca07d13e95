//! Pictures through an autoencoder and back.

use std::fs;

use super::tiny;
use crate::support::database::Database;
use crate::support::pictures::pictures_of;

#[tokio::test(flavor = "multi_thread")]
async fn pictures_go_through_the_autoencoder_and_are_compared_with_themselves() {
    let db = Database::new().await;
    pictures_of(&db.home.path().join("photos"), 2, 100, 70);
    let text = format!(
        "name = \"vae\"\n[[images]]\nname = \"photos\"\npath = \"photos\"\n\n[[reconstruct]]\nname = \"tiny\"\n\
         of = \"photos\"\nmodel = {:?}\nlatent = [\"mean\", \"sample\"]\nseed = 3\npartition = [\"exact\", \"legacy\"]\n\
         dtype = \"f32\"\n\n[evaluate]\nmetrics = [\"psnr\", \"ssim\", \"nmse\", \"best_shift\"]\n",
        tiny()
    );
    let path = db.home.path().join("vae.toml");
    fs::write(&path, text).unwrap();
    let said = db.jobctl(["run", path.to_str().unwrap(), "--json"], 0).json_lines();
    assert_eq!(said[0]["new"], serde_json::json!({"reconstruct": 8, "evaluate": 8}));
    db.check_laws().await;
    assert_eq!(db.number("select count(*) from score").await, 32);
    assert_eq!(db.number("select count(*) from score where value is null").await, 0);
    assert_eq!(db.number("select count(*) from reconstruction where width = 96 and height = 64").await, 8);
    assert_eq!(db.number("select count(*) from reconstruction where seed = 3").await, 4);
    let notes = db.number("select count(*) from score where metric = 'best_shift' and note like '%moved%'").await;
    assert_eq!(notes, 8);
    // The mean and the draw, each decoded in two ways, differ for both pictures.
    assert_eq!(db.number("select count(distinct pixels) from image").await, 8);
    let sources = db.text("select string_agg(name, ', ' order by idx) from source where making is not null").await;
    assert_eq!(
        sources,
        "tiny latent=mean partition=exact, tiny latent=mean partition=legacy, \
         tiny latent=sample:3 partition=exact, tiny latent=sample:3 partition=legacy"
    );
    let report = fs::read_to_string(said[1]["report"].as_str().unwrap()).unwrap();
    for words in ["Reconstruction", "Original", "PSNR", "Best shift", "moved"] {
        assert!(report.to_lowercase().contains(&words.to_lowercase()), "{words} is not in the report");
    }
}
