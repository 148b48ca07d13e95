//! The axes of a block, each as changes to one draft: what a point is, is its draft after one change of each axis.

use std::ops::{Range, RangeInclusive};
use std::rc::Rc;

use toml::Spanned;
use toml::de::DeValue;

use super::super::super::block::{Block, Placed};
use super::super::super::making::combine;
use super::super::super::{Axis, Expand};
use super::super::axes::{Drawn, check, drawn};
use super::super::check_keys;
use super::Draft;
use crate::job::task::finetune::Lora;

/// What a value of an axis does to a draft.
type Change = Rc<dyn Fn(&mut Draft)>;

/// The axes of a block, in the order in which they were added.
pub(super) struct Dials<'a, 'b> {
    block: &'a Block<'b>,
    start: Draft,
    axes: Vec<Dial>,
}

/// An axis.
struct Dial {
    key: &'static str,
    varies: bool,
    /// How each value is shown, and what it does.
    values: Vec<(String, Change)>,
    drawn: Drawn,
}

impl<'a, 'b> Dials<'a, 'b> {
    /// Points that are `start` but for what the block says.
    pub(super) fn new(block: &'a Block<'b>, start: Draft) -> Self {
        Self { block, start, axes: Vec::new() }
    }

    pub(super) fn block(&self) -> &'a Block<'b> {
        self.block
    }

    /// What every point starts from.
    pub(super) fn start(&mut self) -> &mut Draft {
        &mut self.start
    }

    /// Adds an axis; `show` is what labels have of a value.
    pub(super) fn add<T: 'static>(
        &mut self,
        key: &'static str,
        axis: Axis<Placed<T>>,
        show: impl Fn(&T) -> String,
        set: impl Fn(&mut Draft, &T, Range<usize>) + 'static,
    ) {
        let (set, varies, drawn) = (Rc::new(set), axis.varies, drawn(key, &axis, &show));
        let change = |it: Placed<T>| -> (String, Change) {
            let (shown, set) = (show(&it.value), set.clone());
            (shown, Rc::new(move |draft: &mut Draft| set(draft, &it.value, it.span.clone())))
        };
        let values = axis.values.into_iter().map(change).collect();
        self.axes.push(Dial { key, varies, values, drawn });
    }

    /// One of `choices`.
    pub(super) fn choice<T: Copy + 'static>(
        &mut self,
        key: &'static str,
        choices: &[(&'static str, T)],
        set: impl Fn(&mut Draft, T) + 'static,
    ) {
        let named: Vec<(&'static str, (&'static str, T))> = choices.iter().map(|it| (it.0, *it)).collect();
        let Some(axis) = self.block.choice_axis(key, &named) else { return };
        self.add(key, axis, |it| it.0.to_owned(), move |draft, it, _| set(draft, it.1));
    }

    /// A whole number.
    pub(super) fn whole(
        &mut self,
        key: &'static str,
        range: RangeInclusive<i128>,
        set: impl Fn(&mut Draft, i128) + 'static,
    ) {
        let Some(axis) = self.block.whole_axis(key, range) else { return };
        self.add(key, axis, ToString::to_string, move |draft, it, _| set(draft, *it));
    }

    /// A number.
    pub(super) fn number(
        &mut self,
        key: &'static str,
        must_be: &str,
        fits: impl Fn(f64) -> bool,
        set: impl Fn(&mut Draft, f64) + 'static,
    ) {
        let Some(axis) = self.block.number_axis(key, must_be, fits) else { return };
        self.add(key, axis, ToString::to_string, move |draft, it, _| set(draft, *it));
    }

    /// The side of a square.
    pub(super) fn sides(&mut self, key: &'static str, set: impl Fn(&mut Draft, u32, Range<usize>) + 'static) {
        let Some(axis) = self.block.size_axis(key) else { return };
        for it in axis.values.iter().filter(|it| it.value.0 != it.value.1) {
            let help = format!("write `{key} = {}`, say", it.value.0.min(it.value.1));
            self.block.faults.at(&it.span, "pictures are cut into squares for training", help);
        }
        self.add(key, axis, |it| it.0.to_string(), move |draft, it, span| set(draft, it.0, span));
    }

    /// A list of numbers, or an axis of such lists.
    pub(super) fn lists(&mut self, key: &'static str, set: impl Fn(&mut Draft, &[f64]) + 'static) {
        let Some(value) = self.block.get(key) else { return };
        let DeValue::Array(list) = value.get_ref() else {
            self.block.wrong_type(key, value, "a list of numbers", "such as [1, 2, 2, 4]".to_owned());
            return;
        };
        let is_axis = list.iter().any(|it| matches!(it.get_ref(), DeValue::Array(_)));
        let values: Vec<Option<Placed<Vec<f64>>>> = if is_axis {
            list.iter().map(|it| self.numbers(key, it)).collect()
        } else {
            vec![self.numbers(key, value)]
        };
        let Some(values) = values.into_iter().collect::<Option<Vec<_>>>() else { return };
        let show = |it: &Vec<f64>| {
            let numbers: Vec<String> = it.iter().map(ToString::to_string).collect();
            format!("[{}]", numbers.join(", "))
        };
        self.add(key, Axis { values, varies: is_axis }, show, move |draft, it, _| set(draft, it));
    }

    fn numbers(&self, key: &str, value: &Spanned<DeValue<'_>>) -> Option<Placed<Vec<f64>>> {
        let DeValue::Array(list) = value.get_ref() else {
            self.block.wrong_type(key, value, "a list of numbers, or of such lists", None);
            return None;
        };
        let number = |it: &Spanned<DeValue>| {
            let number = match it.get_ref() {
                DeValue::Integer(it) => it.as_str().parse::<f64>().ok(),
                DeValue::Float(it) => it.as_str().parse::<f64>().ok(),
                _ => None,
            };
            let number = number.filter(|it| it.is_finite() && *it >= 0.0);
            if number.is_none() {
                self.block.faults.at(&it.span(), format!("`{key}` has finite numbers of at least 0"), None);
            }
            number
        };
        let numbers: Vec<Option<f64>> = list.iter().map(number).collect();
        Some(Placed { value: numbers.into_iter().collect::<Option<_>>()?, span: value.span() })
    }

    /// `{ rank = 16, alpha = 16 }`, or an axis of such tables. Without `alpha` it is the rank.
    pub(super) fn lora(&mut self, key: &'static str, set: impl Fn(&mut Draft, Lora, Range<usize>) + 'static) {
        let Some(value) = self.block.get(key) else { return };
        let (tables, varies): (Vec<&Spanned<DeValue>>, bool) = match value.get_ref() {
            DeValue::Array(list) => (list.iter().collect(), true),
            _ => (vec![value], false),
        };
        let mut values = Vec::with_capacity(tables.len());
        for it in tables {
            let DeValue::Table(table) = it.get_ref() else {
                let help = "write `lora = { rank = 16, alpha = 16 }`".to_owned();
                self.block.wrong_type(key, it, "a table", help);
                return;
            };
            let inner = Block { title: "`lora`", table, span: it.span(), faults: self.block.faults };
            check_keys(&inner, &["rank", "alpha"]);
            if inner.get("rank").is_none() {
                inner.missing("rank", "16");
            }
            let rank = inner.integer("rank", 1..=65_536).map_or(1, |it| it as u32);
            let alpha = inner.number("alpha", "a number above 0", |it| it > 0.0).unwrap_or(f64::from(rank));
            values.push(Placed { value: Lora { rank, alpha }, span: it.span() });
        }
        let show = |it: &Lora| match it.alpha == f64::from(it.rank) {
            true => it.rank.to_string(),
            false => format!("{}/{}", it.alpha, it.rank),
        };
        self.add(key, Axis { values, varies }, show, move |draft, it, span| set(draft, *it, span));
    }

    /// The points, the first axis slowest: the values of what varies, as ` key=value` each, and the draft.
    pub(super) fn points(self, expand: Expand) -> Vec<(String, Draft)> {
        let shapes: Vec<(usize, bool)> = self.axes.iter().map(|it| (it.values.len(), it.varies)).collect();
        let drawn: Vec<Drawn> = self.axes.iter().map(|it| it.drawn.clone()).collect();
        check(self.block, expand, &drawn);
        let fits = match expand {
            Expand::Grid => true,
            Expand::Zip => {
                let lists: Vec<usize> = shapes.iter().filter(|it| it.1).map(|it| it.0).collect();
                lists.iter().all(|it| *it == lists[0])
            }
        };
        if !fits || shapes.iter().any(|it| it.0 == 0) {
            return Vec::new();
        }
        let point = |at: Vec<usize>| {
            let (mut label, mut draft) = (String::new(), self.start.clone());
            for (axis, idx) in self.axes.iter().zip(at) {
                let (shown, change) = &axis.values[idx];
                change(&mut draft);
                if axis.varies {
                    label.push_str(&format!(" {}={shown}", axis.key));
                }
            }
            (label, draft)
        };
        combine(&shapes, expand).into_iter().map(point).collect()
    }
}
