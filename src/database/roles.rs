//! Who may do what: roles for the owner, workers, those who enqueue, and readers, each with the least that it needs.

use anyhow::{Context, bail, ensure};
use sqlx::{AssertSqlSafe, PgPool, Postgres, Transaction};

/// The roles and what they are for.
pub const ROLES: [(&str, &str); 4] = [
    ("jobctl_owner", "owns the tables: updates jobctl, makes roles, prunes"),
    ("jobctl_worker", "claims jobs, writes their results"),
    ("jobctl_enqueuer", "enqueues, cancels, retries, pauses; reads"),
    ("jobctl_reader", "reads"),
];

/// A right on one table.
struct Grant {
    table: &'static str,
    right: &'static str,
    /// All columns if empty.
    columns: &'static [&'static str],
}

const fn on(table: &'static str, right: &'static str) -> Grant {
    Grant { table, right, columns: &[] }
}

const fn update(table: &'static str, columns: &'static [&'static str]) -> Grant {
    Grant { table, right: "update", columns }
}

/// What a worker writes when it beats, claims, settles, rescues and records. It reads as a reader does. It cannot take
/// back what has ended: a function of the owner's makes again what is gone from the store, and nothing else.
const WORKER: &[Grant] = &[
    on("worker", "insert"),
    on("worker", "update"),
    on("worker_device", "insert"),
    on("worker_device", "update"),
    on("worker_device", "delete"),
    on("job", "insert"),
    on("job", "update"),
    on("job", "delete"),
    on("job_history", "insert"),
    on("attempt", "insert"),
    on("attempt", "update"),
    on("attempt_log", "insert"),
    // A failure stops its sweep where the sweep says so.
    update("sweep", &["cancelled_at"]),
    on("permit", "update"),
    // A job that ran out of memory asks for more than any before it.
    on("lane", "insert"),
    update("lane", &["closed_at", "sweep_gate", "kind_gate"]),
    on("artifact", "insert"),
    on("store_mark", "insert"),
    on("job_output", "insert"),
    update("job_output", &["job_id", "artifact", "n_cut", "made_at"]),
    on("image", "insert"),
    update("image", &["preview", "pixels"]),
    on("score", "insert"),
    on("set_score", "insert"),
    update("set_score", &["value", "why", "n", "job_id", "scored_at"]),
    on("generation", "insert"),
    update("generation", &["artifact", "job_id", "made_at"]),
    on("reconstruction", "insert"),
    update("reconstruction", &["artifact", "job_id", "made_at"]),
    on("trained", "insert"),
    update("trained", &["job_id", "n_pictures", "left_out", "held_out", "made_at"]),
    on("checkpoint", "insert"),
    on("checkpoint", "update"),
    on("checkpoint", "delete"),
    on("curve", "insert"),
    on("curve", "update"),
    on("curve", "delete"),
    on("asked", "insert"),
    on("asked", "update"),
    update("asking", &["spent"]),
    on("ask_pace", "insert"),
    on("ask_pace", "update"),
    on("caption", "insert"),
    // Firings of schedules are done by whichever worker comes first.
    on("firing", "insert"),
    on("firing", "update"),
    update("schedule", &["due_at"]),
    on("queue_gauge", "update"),
    // So are reports and their mails.
    on("report_run", "insert"),
    on("mail", "insert"),
    on("mail", "update"),
    // What machine judges say.
    on("rating", "insert"),
    on("verdict", "insert"),
];

/// What enqueueing, cancelling, retrying and pausing write.
const ENQUEUER: &[Grant] = &[
    on("sweep", "insert"),
    on("sweep", "update"),
    on("source", "insert"),
    on("cell", "insert"),
    on("cell_caption", "insert"),
    update("cell_caption", &["text"]),
    on("cell_caption", "delete"),
    on("training", "insert"),
    on("job", "insert"),
    on("job", "update"),
    on("job", "delete"),
    on("job_key", "insert"),
    on("job_edge", "insert"),
    on("sweep_job", "insert"),
    on("job_history", "insert"),
    // A retry moves an ended job back, and takes the end of what is to be made again back.
    on("job_history", "delete"),
    update("job_history", &["state", "error"]),
    on("source_file", "insert"),
    on("source_file", "update"),
    on("package_part", "insert"),
    update("package_part", &["name", "seen_at"]),
    on("artifact", "insert"),
    on("store_mark", "insert"),
    on("sweep_file", "insert"),
    on("asking", "insert"),
    on("asking", "update"),
    on("asking_job", "insert"),
    on("gate", "insert"),
    on("gate", "update"),
    on("gate", "delete"),
    on("permit", "insert"),
    on("permit", "update"),
    on("permit", "delete"),
    on("lane", "insert"),
    update("lane", &["closed_at", "sweep_gate", "kind_gate"]),
    on("schedule", "insert"),
    on("schedule", "update"),
    on("firing", "insert"),
    on("firing", "update"),
    on("report_run", "insert"),
    update("report_run", &["good", "accepted_at"]),
    on("mail", "insert"),
    on("mail", "update"),
    // What people say.
    on("label_import", "insert"),
    on("rating", "insert"),
    on("verdict", "insert"),
];

/// Functions and sequences beside the tables.
const OTHERS: &[(&str, &str, &str)] = &[
    ("jobctl_worker", "usage", "sequence lease_seq"),
    ("jobctl_worker", "usage", "sequence firing_lease_seq"),
    ("jobctl_worker", "execute", "function ensure_months(int)"),
    ("jobctl_worker", "execute", "function make_again(bigint[])"),
    ("jobctl_worker", "usage", "sequence mail_lease_seq"),
    ("jobctl_enqueuer", "usage", "sequence mail_lease_seq"),
    ("jobctl_enqueuer", "usage, update", "sequence job_id_seq"),
    ("jobctl_enqueuer", "execute", "function ensure_months(int)"),
];

/// Makes the roles, gives all tables to the owner and every role its rights, those of earlier versions taken back.
///
/// # Errors
/// Our role may not make roles, or does not own the tables.
pub async fn make(pool: &PgPool) -> anyhow::Result<()> {
    let mut tx = pool.begin().await.context("begin a transaction")?;
    // Roles belong to the server: another database of it may be at it as well.
    run(&mut tx, "select pg_advisory_xact_lock(hashtext('jobctl roles'))".to_owned()).await?;
    for (role, _) in ROLES {
        run(&mut tx, format!("do $$ begin if not exists (select from pg_roles where rolname = '{role}') then create role {role} nologin; end if; end $$"))
            .await
            .context("make the roles: whoever does this needs CREATEROLE")?;
    }
    run(&mut tx, "grant jobctl_owner to current_user".to_owned()).await.context("join jobctl_owner")?;
    run(&mut tx, "grant jobctl_reader to jobctl_worker, jobctl_enqueuer".to_owned()).await?;
    run(&mut tx, "grant usage, create on schema public to jobctl_owner".to_owned())
        .await
        .context("let the owner make tables")?;
    run(&mut tx, "grant usage on schema public to jobctl_reader".to_owned()).await?;
    own_everything(&mut tx).await.context("give the tables to jobctl_owner: their owner must do this")?;
    grant(&mut tx).await?;
    tx.commit().await.context("make the roles")
}

/// Gives every role its rights on the tables that there are now.
pub(super) async fn grant(tx: &mut Transaction<'_, Postgres>) -> anyhow::Result<()> {
    for statement in [
        "grant select on all tables in schema public to jobctl_reader",
        "alter default privileges for role jobctl_owner in schema public grant select on tables to jobctl_reader",
        "revoke insert, update, delete, truncate on all tables in schema public from jobctl_reader, jobctl_worker, jobctl_enqueuer",
        "revoke all on all sequences in schema public from jobctl_reader, jobctl_worker, jobctl_enqueuer",
    ] {
        run(tx, statement.to_owned()).await.context("give the roles their rights")?;
    }
    let tables = names(
        tx,
        "select relname::text from pg_class where relnamespace = 'public'::regnamespace and relkind in ('r', 'p')",
    )
    .await?;
    let sequences =
        names(tx, "select relname::text from pg_class where relnamespace = 'public'::regnamespace and relkind = 'S'")
            .await?;
    for (role, grants) in [("jobctl_worker", WORKER), ("jobctl_enqueuer", ENQUEUER)] {
        for it in grants.iter().filter(|it| tables.iter().any(|table| table == it.table)) {
            let columns = if it.columns.is_empty() { String::new() } else { format!(" ({})", it.columns.join(", ")) };
            // Column rights of earlier versions go with the table's.
            run(tx, format!("grant {}{columns} on {} to {role}", it.right, it.table))
                .await
                .context("give the roles their rights")?;
        }
    }
    for (role, right, what) in OTHERS {
        let is_there = what.strip_prefix("sequence ").is_none_or(|name| sequences.iter().any(|it| it == name));
        if is_there {
            run(tx, format!("grant {right} on {what} to {role}")).await.context("give the roles their rights")?;
        }
    }
    Ok(())
}

/// Tables, views, sequences and functions of ours become the owner's. Sequences of columns follow their table.
async fn own_everything(tx: &mut Transaction<'_, Postgres>) -> anyhow::Result<()> {
    let statements = names(
        tx,
        "select format('alter %s %s owner to jobctl_owner', case relkind when 'v' then 'view' when 'S' then 'sequence' else 'table' end, oid::regclass)
        from pg_class
        where relnamespace = 'public'::regnamespace and relkind in ('r', 'p', 'v', 'S')
            and not exists (select from pg_depend where objid = pg_class.oid and classid = 'pg_class'::regclass and deptype in ('i', 'a') and relkind = 'S')
            and relowner <> 'jobctl_owner'::regrole
        union all
        select format('alter function %s owner to jobctl_owner', oid::regprocedure)
        from pg_proc
        where pronamespace = 'public'::regnamespace and proowner <> 'jobctl_owner'::regrole
            and not exists (select from pg_depend where objid = pg_proc.oid and deptype = 'e')",
    )
    .await?;
    for statement in statements {
        run(tx, statement).await?;
    }
    Ok(())
}

async fn run(tx: &mut Transaction<'_, Postgres>, statement: String) -> anyhow::Result<()> {
    sqlx::query(AssertSqlSafe(statement)).execute(&mut **tx).await?;
    Ok(())
}

async fn names(tx: &mut Transaction<'_, Postgres>, query: &'static str) -> anyhow::Result<Vec<String>> {
    Ok(sqlx::query_scalar(query).fetch_all(&mut **tx).await?)
}

/// Checks that our role may do what a worker does.
///
/// # Errors
/// It may not: the message names every right that is missing, and what gives it.
pub async fn check_worker(pool: &PgPool) -> anyhow::Result<()> {
    let mut missing = Vec::new();
    let rights = WORKER.iter().map(|it| (it.table, it.right, it.columns)).chain([("job", "select", &[][..])]);
    let (mut tables, mut columns, mut verbs) = (Vec::new(), Vec::new(), Vec::new());
    for (table, right, names) in rights {
        let names = if names.is_empty() { &[""][..] } else { names };
        for name in names {
            tables.push(table.to_owned());
            columns.push((*name).to_owned());
            verbs.push(right.to_owned());
        }
    }
    let rows: Vec<(String, String, String)> = sqlx::query_as(
        "select verb, place, name
        from unnest($1::text[], $2::text[], $3::text[]) with ordinality as needed (place, name, verb, nth)
        where to_regclass(place) is not null and case
            when name <> '' then not has_column_privilege(current_user, to_regclass(place), name, verb)
            else not has_table_privilege(current_user, to_regclass(place), verb)
        end
        order by nth",
    )
    .bind(&tables)
    .bind(&columns)
    .bind(&verbs)
    .fetch_all(pool)
    .await
    .context("look at our rights")?;
    for (verb, table, column) in rows {
        missing.push(if column.is_empty() {
            format!("{verb} on {table}")
        } else {
            format!("{verb} ({column}) on {table}")
        });
    }
    let may_claim: Option<bool> =
        sqlx::query_scalar("select has_sequence_privilege(current_user, 'lease_seq', 'usage')")
            .fetch_one(pool)
            .await
            .context("look at our rights")?;
    if may_claim != Some(true) {
        missing.push("usage on sequence lease_seq".to_owned());
    }
    if missing.is_empty() {
        return Ok(());
    }
    let role: String =
        sqlx::query_scalar("select current_user::text").fetch_one(pool).await.context("ask who we are")?;
    bail!(
        "the database's role `{role}` may not work: it lacks {}.\nhelp: let the owner run `jobctl db roles`, then `grant jobctl_worker to {role}`",
        missing.join(", ")
    )
}

/// Checks that our role may read the tables at all.
///
/// # Errors
/// It may not: the message says what gives it.
pub(super) async fn check_member(pool: &PgPool) -> anyhow::Result<()> {
    let (role, may): (String, bool) =
        sqlx::query_as("select current_user::text, has_table_privilege('_sqlx_migrations', 'select')")
            .fetch_one(pool)
            .await
            .context("look at our rights")?;
    ensure!(
        may,
        "the database's role `{role}` may not even read the tables.\nhelp: let the owner run `jobctl db roles`, then \
         `grant jobctl_reader to {role}`, or jobctl_worker or jobctl_enqueuer"
    );
    Ok(())
}

/// Why the tables cannot be brought up to date by our role; nothing if they can.
///
/// # Errors
/// They are not up to date and our role may not change them.
pub(super) async fn check_owner(pool: &PgPool) -> anyhow::Result<()> {
    let (role, may): (String, bool) =
        sqlx::query_as("select current_user::text, has_schema_privilege(current_user, current_schema(), 'create')")
            .fetch_one(pool)
            .await
            .context("look at our rights")?;
    ensure!(
        may,
        "the tables are those of an older jobctl, and the database's role `{role}` may not change them: \
         let an owner run `jobctl db migrate` with this version"
    );
    Ok(())
}
