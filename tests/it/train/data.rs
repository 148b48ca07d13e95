//! Pictures: resized and cut as Pillow and torchvision do it, and read from folders.

use std::fs;

use jobctl::image::Rgb;
use jobctl::image::resize::{Filter, resize};
use jobctl::train::data::{Cut, Folder, Place, stacked};
use jobctl::train::random::{Purpose, Stream};
use sha2::{Digest, Sha256};

use super::{json, path};

/// `pattern` of make_train.py.
fn pattern(width: u32, height: u32) -> Rgb {
    let mut image = Rgb::new(width, height);
    for (idx, value) in image.pixels.iter_mut().enumerate() {
        let (c, x, y) = (idx % 3, idx / 3 % width as usize, idx / 3 / width as usize);
        *value = ((x * 7 + y * 13 + c * 29 + (x * y) % 31 * 5 + 255 * ((x / 5 + y / 3) % 2)) % 256) as u8;
    }
    image
}

fn digest(image: &Rgb) -> String {
    Sha256::digest(&image.pixels).iter().map(|it| format!("{it:02x}")).collect()
}

fn size(value: &serde_json::Value) -> (u32, u32) {
    let side = |idx: usize| u32::try_from(value[idx].as_u64().unwrap()).unwrap();
    (side(0), side(1))
}

#[test]
fn pictures_are_resized_to_the_bytes_of_pillow() {
    let rows = json("resize.json")["resized"].clone();
    assert_eq!(rows.as_array().unwrap().len(), 28);
    for row in rows.as_array().unwrap() {
        let ((from_width, from_height), (width, height)) = (size(&row["from"]), size(&row["to"]));
        let filter: Filter = serde_json::from_value(row["filter"].clone()).unwrap();
        let resized = resize(&pattern(from_width, from_height), width, height, filter);
        assert_eq!((resized.width, resized.height), (width, height));
        assert_eq!(digest(&resized), row["sha256"], "{row}");
    }
}

#[test]
fn squares_are_cut_to_the_bytes_of_torchvision() {
    for row in json("resize.json")["cut"].as_array().unwrap() {
        let (width, height) = size(&row["from"]);
        let side = u32::try_from(row["side"].as_u64().unwrap()).unwrap();
        let cut = Cut { place: Place::Centre, flip: false, ..Cut::released(side) };
        let square = cut.of(&pattern(width, height), &mut Stream::new(0, Purpose::Crop, 0, 0));
        assert_eq!(digest(&square), row["sha256"], "{row}");
    }
}

#[test]
fn crops_reach_both_ends_and_half_of_them_are_mirrored() {
    let image = pattern(40, 20);
    let cut = Cut::released(20);
    let (mut lefts, mut n_mirrored) = (std::collections::BTreeSet::new(), 0);
    for idx in 0..400 {
        let square = cut.of(&image, &mut Stream::new(0, Purpose::Crop, 0, idx));
        assert_eq!((square.width, square.height), (20, 20));
        let mirrored = |mut it: Rgb| {
            it.pixels.chunks_exact_mut(60).for_each(|row| row.as_chunks_mut::<3>().0.reverse());
            it
        };
        let found = (0..=20).find_map(|left| {
            let plain = image.crop(left, 0, 20, 20);
            if plain == square { Some((left, false)) } else { (mirrored(plain) == square).then_some((left, true)) }
        });
        let (left, is_mirrored) = found.unwrap();
        lefts.insert(left);
        n_mirrored += usize::from(is_mirrored);
    }
    assert_eq!(lefts.len(), 21);
    // Five standard deviations around one half.
    assert!((150..=250).contains(&n_mirrored), "{n_mirrored}");
    let tensor = stacked(&[image.clone(), image], &candle_core::Device::Cpu).unwrap();
    assert_eq!(tensor.dims(), [2, 3, 20, 40]);
}

#[test]
fn a_folder_is_read_with_its_captions_and_what_is_left_out_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    for (from, to) in [
        ("64x64.png", "b.png"),
        ("turned6.jpg", "sub/a.jpg"),
        ("truncated-header.jpg", "broken.jpg"),
        ("64x64.png", "mute.png"),
    ] {
        fs::create_dir_all(at(to).parent().unwrap()).unwrap();
        fs::copy(path("images").join(from), at(to)).unwrap();
    }
    let lines = "{\"file_name\": \"./b.png\", \"text\": \" a square \"}\n{\"file_name\": \"sub/a.jpg\", \"text\": \"turned\", \"other\": 1}\n\n{\"file_name\": \"broken.jpg\", \"text\": \"cut off\"}\n";
    fs::write(at("metadata.jsonl"), lines).unwrap();
    let read = Folder::read(folder.path()).unwrap();
    let told: Vec<(&str, u32, u32)> =
        read.pictures.iter().map(|it| (it.caption.as_str(), it.width, it.height)).collect();
    assert_eq!(told[0], ("a square", 64, 64));
    // EXIF turns it.
    assert!(told.len() == 2 && told[1].0 == "turned" && told[1].1 < told[1].2, "{told:?}");
    let left_out: Vec<(&str, &str)> =
        read.left_out.iter().map(|it| (it.0.file_name().unwrap().to_str().unwrap(), it.1.as_str())).collect();
    assert_eq!(left_out.len(), 2);
    assert!(left_out[0].0 == "broken.jpg" && left_out[1] == ("mute.png", "it has no caption"), "{left_out:?}");
    assert_eq!(read.smaller_than(64).len(), 1);

    let refusal = |lines: &str| {
        fs::write(at("metadata.jsonl"), lines).unwrap();
        format!("{:#}", Folder::read(folder.path()).unwrap_err())
    };
    assert!(refusal("{\"file_name\": \"b.png\"}\n").contains("metadata.jsonl:1"));
    assert!(refusal("{\"file_name\": \"c.png\", \"text\": \"x\"}\n").contains("names c.png, which is not there"));
    assert!(refusal("").contains("no picture with a caption"));
    fs::remove_file(at("metadata.jsonl")).unwrap();
    fs::write(at("b.txt"), "beside it\n").unwrap();
    assert_eq!(Folder::read(folder.path()).unwrap().pictures[0].caption, "beside it");
}

#[test]
fn buckets_have_the_area_of_the_square_and_sides_that_the_model_takes() {
    use jobctl::train::data::{bucket, nearest};
    assert_eq!(bucket(1024, (1, 1), 16), (1024, 1024));
    assert_eq!(bucket(1024, (16, 9), 16), (1360, 768));
    assert_eq!(bucket(1024, (9, 16), 16), (768, 1360));
    assert_eq!(bucket(4096, (3, 2), 32), (5024, 3360));
    assert_eq!(bucket(16, (4, 1), 32), (32, 32), "a side is never 0");
    let buckets = [(1024, 1024), (1360, 768), (768, 1360)];
    assert_eq!(nearest(&buckets, (4000, 3900)), Some((1024, 1024)));
    assert_eq!(nearest(&buckets, (6000, 3000)), Some((1360, 768)));
    assert_eq!(nearest(&buckets, (3000, 6000)), Some((768, 1360)));
    assert_eq!(nearest(&[], (3, 4)), None);

    let cut = Cut::released(64);
    let mut picture = Rgb::new(300, 200);
    picture.pixels.iter_mut().enumerate().for_each(|(idx, it)| *it = (idx * 7 % 251) as u8);
    for size in [(96, 48), (48, 96), (64, 64)] {
        let made = cut.sized(&picture, size, &mut Stream::new(0, Purpose::Crop, 0, 0));
        assert_eq!((made.width, made.height), size);
    }
}
