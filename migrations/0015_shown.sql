-- What reports and estimates take from sweep files: what pictures of data sets show, and what a picture counts as to a judge.

create table cell_caption (
    sweep_id int not null references sweep on delete cascade,
    cell_idx int not null,
    text text not null check (text <> ''),
    primary key (sweep_id, cell_idx)
);
comment on table cell_caption is 'What the files of a sweep say that its pictures show: the captions of pictures that no model made.';
comment on column cell_caption.cell_idx is 'cell.idx.';

alter table asking
    add column picture_base int check (picture_base >= 0),
    add column picture_tile int check (picture_tile >= 0);
comment on column asking.picture_base is 'Tokens that every picture counts as; null: as our own table says of the model.';
comment on column asking.picture_tile is 'Tokens more for each tile of 512×512 pixels.';
