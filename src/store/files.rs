//! What is known of files that sweeps have read: their hashes, and where a content may be found.

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use anyhow::Context;
use sqlx::PgPool;

use crate::job::Hash;
use crate::queue::Tx;
use crate::sweep::inventory::{FileStamp, HashCache, Inventory, Known};

/// The hashes of unchanged files, in memory while a sweep's folders are read.
#[derive(Debug, Default)]
pub struct FileHashes {
    known: HashMap<FileStamp, Known>,
    /// Where the database knows which content to be.
    located: HashSet<(Vec<u8>, Hash)>,
    /// Files that were read just now.
    fresh: HashMap<Vec<u8>, FileStamp>,
}

impl HashCache for FileHashes {
    fn get(&self, stamp: &FileStamp) -> Option<Known> {
        self.known.get(stamp).copied()
    }

    fn put(&mut self, stamp: FileStamp, known: Known) {
        self.fresh.insert(stamp.path.clone(), stamp.clone());
        self.known.insert(stamp, known);
    }
}

/// The stamp of a file that may still be changing: no file has it, so the file is read again next time.
const NO_STAMP: i64 = -1;

impl FileHashes {
    /// Reads what the database knows.
    ///
    /// # Errors
    /// Postgres is out of reach.
    pub async fn load(pool: &PgPool) -> anyhow::Result<Self> {
        let rows = sqlx::query!("select path, bytes, mtime_ns, content, width, height from source_file")
            .fetch_all(pool)
            .await
            .context("read the hashes of known files")?;
        let mut hashes = Self::default();
        for row in rows {
            let content = row.content.try_into()?;
            hashes.located.insert((row.path.clone(), content));
            if row.mtime_ns == NO_STAMP {
                continue;
            }
            let stamp = FileStamp { path: row.path, size_bytes: u64::try_from(row.bytes)?, mtime_ns: row.mtime_ns };
            let size = row.width.zip(row.height);
            let size = size.map(|(w, h)| anyhow::Ok((u32::try_from(w)?, u32::try_from(h)?))).transpose()?;
            hashes.known.insert(stamp, Known { content, size });
        }
        Ok(hashes)
    }

    /// Keeps where the files of a sweep are and what was learned of them.
    ///
    /// # Errors
    /// Postgres is out of reach.
    pub async fn save(&mut self, tx: &mut Tx<'_>, inventory: &Inventory) -> anyhow::Result<()> {
        let (mut paths, mut bytes, mut mtimes, mut contents) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let (mut widths, mut heights) = (Vec::new(), Vec::new());
        let mut seen = HashSet::new();
        let weights = inventory.packages.values().flat_map(|it| &it.files);
        let weights = weights.chain(inventory.networks.values().flat_map(|it| &it.files));
        let weights = weights.map(|it| (&it.0, it.1, None));
        for (path, content, size) in inventory.pictures().chain(weights) {
            let path = path.as_os_str().as_bytes().to_vec();
            let stamp = self.fresh.get(&path);
            let is_news = stamp.is_some() || !self.located.contains(&(path.clone(), content));
            if !is_news || !seen.insert(path.clone()) {
                continue;
            }
            bytes.push(stamp.map_or(NO_STAMP, |it| i64::try_from(it.size_bytes).unwrap_or(NO_STAMP)));
            mtimes.push(stamp.map_or(NO_STAMP, |it| it.mtime_ns));
            paths.push(path);
            contents.push(content.0.to_vec());
            widths.push(size.and_then(|it| i32::try_from(it.0).ok()));
            heights.push(size.and_then(|it| i32::try_from(it.1).ok()));
        }
        sqlx::query!(
            "insert into source_file (path, bytes, mtime_ns, content, width, height)
            select * from unnest($1::bytea[], $2::bigint[], $3::bigint[], $4::bytea[], $5::int[], $6::int[])
            on conflict (path) do update
            set bytes = excluded.bytes, mtime_ns = excluded.mtime_ns, content = excluded.content,
                width = excluded.width, height = excluded.height, seen_at = now()",
            &paths,
            &bytes,
            &mtimes,
            &contents,
            &widths as &[Option<i32>],
            &heights as &[Option<i32>],
        )
        .execute(&mut **tx)
        .await
        .context("keep the hashes of files")?;
        Ok(())
    }
}

/// Where a file was seen, and what it was like then.
#[derive(Clone, Debug)]
pub struct PlaceOf {
    /// The hash of its bytes.
    pub content: Hash,
    /// Where.
    pub path: PathBuf,
    size_bytes: i64,
    mtime_ns: i64,
}

impl PlaceOf {
    /// Whether this machine has it, and as far as can be seen without reading it, as it was.
    pub fn is_unchanged(&self) -> bool {
        self.path.metadata().is_ok_and(|it| {
            let mtime_ns = i128::from(it.mtime()) * 1_000_000_000 + i128::from(it.mtime_nsec());
            // Of a file that was being written nothing is known.
            self.mtime_ns == NO_STAMP
                || (i128::from(self.size_bytes), i128::from(self.mtime_ns)) == (it.len().into(), mtime_ns)
        })
    }
}

/// Width and height in pixels of files of these contents, as their headers say, where that is known.
///
/// # Errors
/// Postgres is out of reach.
pub async fn sizes_of(pool: &PgPool, contents: &[Hash]) -> anyhow::Result<HashMap<Hash, (u32, u32)>> {
    if contents.is_empty() {
        return Ok(HashMap::new());
    }
    let contents: Vec<Vec<u8>> = contents.iter().map(|it| it.0.to_vec()).collect();
    let rows = sqlx::query!(
        "select distinct content, width as \"width!\", height as \"height!\"
        from source_file
        where content = any($1) and width is not null and height is not null",
        &contents
    )
    .fetch_all(pool)
    .await
    .context("look how large the files are")?;
    let size = |width: i32, height: i32| anyhow::Ok((u32::try_from(width)?, u32::try_from(height)?));
    rows.into_iter().map(|row| Ok((row.content.try_into()?, size(row.width, row.height)?))).collect()
}

/// Where files of these contents were seen, the latest first.
///
/// # Errors
/// Postgres is out of reach.
pub async fn places_of(pool: &PgPool, contents: &[Hash]) -> anyhow::Result<Vec<PlaceOf>> {
    let contents: Vec<Vec<u8>> = contents.iter().map(|it| it.0.to_vec()).collect();
    let rows = sqlx::query!(
        "select content, path, bytes, mtime_ns from source_file where content = any($1) order by seen_at desc, path",
        &contents
    )
    .fetch_all(pool)
    .await
    .context("find the files")?;
    rows.into_iter()
        .map(|row| {
            let path = PathBuf::from(OsString::from_vec(row.path));
            Ok(PlaceOf { content: row.content.try_into()?, path, size_bytes: row.bytes, mtime_ns: row.mtime_ns })
        })
        .collect()
}
