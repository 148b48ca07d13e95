//! What is known of files that sweeps have read: their hashes, and where a content may be found.

use std::collections::HashMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use anyhow::Context;
use sqlx::PgPool;

use crate::job::Hash;
use crate::queue::Tx;
use crate::sweep::inventory::{FileStamp, HashCache, Known};

/// The hashes of unchanged files, in memory while a sweep's folders are read.
#[derive(Debug, Default)]
pub struct FileHashes {
    known: HashMap<FileStamp, Known>,
    fresh: Vec<(FileStamp, Known)>,
}

impl HashCache for FileHashes {
    fn get(&self, stamp: &FileStamp) -> Option<Known> {
        self.known.get(stamp).copied()
    }

    fn put(&mut self, stamp: FileStamp, known: Known) {
        self.known.insert(stamp.clone(), known);
        self.fresh.push((stamp, known));
    }
}

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
        let known = rows
            .into_iter()
            .map(|row| {
                let stamp = FileStamp { path: row.path, size_bytes: u64::try_from(row.bytes)?, mtime_ns: row.mtime_ns };
                let size = row.width.zip(row.height);
                let size = size.map(|(w, h)| anyhow::Ok((u32::try_from(w)?, u32::try_from(h)?))).transpose()?;
                Ok((stamp, Known { content: row.content.try_into()?, size }))
            })
            .collect::<anyhow::Result<_>>()?;
        Ok(Self { known, fresh: Vec::new() })
    }

    /// Keeps what was learned.
    ///
    /// # Errors
    /// Postgres is out of reach.
    pub async fn save(&mut self, tx: &mut Tx<'_>) -> anyhow::Result<()> {
        let mut by_path: HashMap<Vec<u8>, (FileStamp, Known)> = HashMap::new();
        for (stamp, known) in self.fresh.drain(..) {
            by_path.insert(stamp.path.clone(), (stamp, known));
        }
        let (mut paths, mut bytes, mut mtimes, mut contents) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let (mut widths, mut heights) = (Vec::new(), Vec::new());
        for (path, (stamp, known)) in by_path {
            paths.push(path);
            bytes.push(i64::try_from(stamp.size_bytes)?);
            mtimes.push(stamp.mtime_ns);
            contents.push(known.content.0.to_vec());
            widths.push(known.size.and_then(|it| i32::try_from(it.0).ok()));
            heights.push(known.size.and_then(|it| i32::try_from(it.1).ok()));
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

/// Where files of these contents were seen, the latest first.
///
/// # Errors
/// Postgres is out of reach.
pub async fn paths_of(pool: &PgPool, contents: &[Hash]) -> anyhow::Result<Vec<(Hash, PathBuf)>> {
    let contents: Vec<Vec<u8>> = contents.iter().map(|it| it.0.to_vec()).collect();
    let rows = sqlx::query!(
        "select content, path from source_file where content = any($1) order by seen_at desc, path",
        &contents
    )
    .fetch_all(pool)
    .await
    .context("find the files")?;
    rows.into_iter().map(|row| Ok((row.content.try_into()?, PathBuf::from(OsString::from_vec(row.path))))).collect()
}
