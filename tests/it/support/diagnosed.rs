//! Files with mistakes, and what is said of them.

use jobctl::sweep::Faults;

use super::root;

/// Reads every TOML file of a folder: each is refused, each mistake with its place, in the words that lie beside it.
///
/// # Panics
/// One is taken, or there are fewer than `n_least`.
pub fn diagnosed<T>(folder: &str, n_least: usize, parse: impl Fn(&str, &str) -> Result<T, Faults>) {
    let folder = root().join(folder);
    let mut n_files = 0;
    for entry in folder.read_dir().unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|it| it != "toml") {
            continue;
        }
        n_files += 1;
        let (name, stem) = (path.file_name().unwrap().to_str().unwrap(), path.file_stem().unwrap().to_str().unwrap());
        let Err(faults) = parse(&std::fs::read_to_string(&path).unwrap(), name) else { panic!("{name} was taken") };
        let text = faults.to_string();
        for fault in &faults.faults {
            assert!(text.contains(&format!("{name}:{}:{}: {}", fault.line, fault.column, fault.message)), "{text}");
        }
        insta::with_settings!({
            snapshot_path => &folder, prepend_module_to_snapshot => false, omit_expression => true,
        }, { insta::assert_snapshot!(stem, text) });
    }
    assert!(n_files >= n_least, "{n_files} files in {}", folder.display());
}
