//! Plans of memory against what is really taken, and what is said when there is too little.

use std::fs;
use std::path::Path;
use std::process::Command;

use candle_core::{DType, Device, Tensor};
use jobctl::job::task::making::{Partition, Precision};
use jobctl::models::init::{self, Preset, Wanted};
use jobctl::models::memory;
use jobctl::models::noise::{Recipe, randn};
use jobctl::models::package::Package;
use jobctl::models::pipeline::{Decoder, Denoiser, Sampling};
use jobctl::models::text::Encoded;

use super::golden;

/// Names the package for the process that measures itself.
const MEASURED: &str = "JOBCTL_TEST_MEASURED";
const SIDE: u32 = 1024;

/// A line of this process's status, in bytes.
fn status(key: &str) -> u64 {
    let text = fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find_map(|it| it.strip_prefix(key)).unwrap();
    line.trim_matches([':', ' ', '\t']).split(' ').next().unwrap().parse::<u64>().unwrap() << 10
}

/// How many bytes more than before a piece of work had at most.
fn taken(work: impl FnOnce()) -> u64 {
    let before = status("VmRSS");
    // Resets the greatest size to the present one.
    fs::write("/proc/self/clear_refs", "5").unwrap();
    work();
    status("VmHWM").saturating_sub(before)
}

fn step(package: &Package) -> u64 {
    let denoiser = Denoiser::load(package, &Device::Cpu, DType::F32).unwrap();
    let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap();
    let text = Encoded { context: zeros(&[333, 64]), pooled: zeros(&[24]), n_cut: [0; 3] };
    let sampling = Sampling { width: SIDE, height: SIDE, steps: 1, guidance: 7.0, seed: 0, noise: Recipe::Current };
    taken(|| drop(denoiser.denoise(&text, Some(&text), &sampling, &mut |_, _| {}).unwrap()))
}

fn decode(package: &Package) -> u64 {
    let decoder = Decoder::load(package, &Device::Cpu, DType::F32).unwrap();
    let side = SIDE as usize / decoder.factor();
    let latent = randn(0, &[1, 4, side, side], DType::F32, Recipe::Current).unwrap();
    taken(|| drop(decoder.decode(&latent, Partition::Exact, memory::BANDS).unwrap()))
}

#[test]
#[expect(clippy::disallowed_methods, reason = "the test starts itself again to be measured alone")]
fn a_plan_is_about_what_is_taken() {
    if let Ok(root) = std::env::var(MEASURED) {
        let package = Package::open(Path::new(&root)).unwrap();
        println!("measured {} {}", step(&package), decode(&package));
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("tiny");
    let wanted = Wanted { preset: Preset::Tiny, seed: 0, precision: Precision::F32, with_t5: true };
    init::write(&root, wanted, &|_, _| {}).unwrap();
    // In a process of its own, for this one runs other tests at the same time.
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "models::memory::a_plan_is_about_what_is_taken", "--nocapture"])
        .env(MEASURED, &root)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let line = text.lines().find_map(|it| it.split_once("measured ")).unwrap_or_else(|| panic!("{text}")).1;
    let measured: Vec<u64> = line.split(' ').map(|it| it.parse().unwrap()).collect();
    let plan = memory::plan(&Package::open(&root).unwrap(), SIDE, SIDE, DType::F32, true).unwrap();
    for (stage, measured) in [plan.denoiser, plan.vae].iter().zip(measured) {
        let planned = stage.working;
        // A plan also counts what libraries may keep.
        let is_about = planned >= measured / 8 * 7 && planned <= measured / 2 * 3 + (64 << 20);
        assert!(is_about, "planned {planned}, measured {measured}");
    }
}

#[test]
fn more_pixels_take_more() {
    for name in super::PACKAGES {
        let needs = memory::Needs::of(&Package::open(&golden(name)).unwrap()).unwrap();
        for dtype in [DType::F32, DType::BF16] {
            let peaks: Vec<u64> = (1..9).map(|it| needs.plan(512 * it, 512 * it, dtype, true).peak()).collect();
            assert!(peaks.is_sorted(), "{name}: {peaks:?}");
            assert!(needs.plan(512, 512, dtype, false).peak() <= peaks[0]);
        }
    }
}

#[test]
fn a_picture_that_is_too_large_is_refused_with_one_that_fits() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("tiny");
    let wanted = Wanted { preset: Preset::Tiny, seed: 0, precision: Precision::F32, with_t5: true };
    init::write(&root, wanted, &|_, _| {}).unwrap();
    let package = Package::open(&root).unwrap();
    let check = |side, free| memory::check(&package, side, side, DType::F32, true, free).map_err(|it| it.to_string());
    check(2048, 4 << 30).unwrap();
    let said = check(2048, 300 << 20).unwrap_err();
    assert!(
        said.contains("2048x2048 takes") && said.contains("to decode") && said.contains("0.3 GB are free"),
        "{said}"
    );
    let (_, fits) = said.rsplit_once(": ").unwrap();
    let side: u32 = fits.split('x').next().unwrap().parse().unwrap();
    check(side, 300 << 20).unwrap();
    check(side + 32, 300 << 20).unwrap_err();
    assert!(check(2048, 1 << 20).unwrap_err().contains("no size would fit"));
    // A size that cannot be made is not a question of memory.
    assert!(check(2047, 4 << 30).unwrap_err().contains("2048x2048 is the nearest"));
}

#[test]
fn the_free_memory_of_this_machine_is_known() {
    assert!(memory::free(&Device::Cpu).unwrap() > 16 << 20);
}
