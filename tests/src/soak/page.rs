//! The report as one page, with its plots.

use std::fmt::Write as _;

use super::load::CLASSES;
use super::measure::Sample;
use super::report::Report;
use super::statistics::float;
use crate::harness::Role;

const WIDTH: f64 = 900.0;
const HEIGHT: f64 = 180.0;
/// Room for the numbers beside the axes.
const LEFT: f64 = 70.0;
const BELOW: f64 = 20.0;
/// The most points of a line, which is as wide as this number of pixels.
const POINTS_MAX: usize = 900;
/// Colours that people with any colour vision can distinguish.
const COLOURS: [&str; 4] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7"];

/// One line, or one set of dots, of a plot.
struct Series {
    name: String,
    points: Vec<(f64, f64)>,
}

/// Returns the whole page.
pub fn html(report: &Report) -> String {
    let mut page = "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>valise-soak</title>\n\
         <style>body{font:14px sans-serif;max-width:1000px;margin:1em auto}pre{background:#f4f4f4;padding:1em;\
         white-space:pre-wrap}svg{display:block}</style></head><body>\n<h1>valise-soak</h1>\n"
        .to_owned();
    let _ = writeln!(page, "<pre>{}</pre>", escaped(&report.summary()));
    let role = |name: &str, value: fn(&Sample, usize) -> f64| {
        let lines = Role::ALL.into_iter().enumerate().map(|(index, role)| {
            let of = |sample: &Sample| value(sample, index);
            line(role.word(), report, &of)
        });
        plot(name, &lines.collect::<Vec<_>>(), true)
    };
    page.push_str(&role("Resident memory, MiB", |sample, index| {
        float(sample.roles[index].memory_bytes) / 1_048_576.0
    }));
    page.push_str(&role("Open descriptors", |sample, index| {
        float(sample.roles[index].descriptors)
    }));
    page.push_str(&role("Threads", |sample, index| {
        float(sample.roles[index].threads)
    }));
    page.push_str(&role("Processors in use", |sample, index| {
        sample.roles[index].cpu_share
    }));
    let queues = [
        line("outbox", report, &|sample| float(sample.outbox)),
        line("inbox", report, &|sample| float(sample.inbox)),
    ];
    page.push_str(&plot("Containers that wait", &queues, true));
    let rate = line("link", report, &|sample| sample.link_bits / 1e6);
    page.push_str(&plot("Link, Mbit/s", &[rate], true));
    let loss = line("lost", report, &|sample| sample.loss_share * 100.0);
    page.push_str(&plot("Datagrams lost, %", &[loss], true));
    let classes = CLASSES.iter().enumerate().map(|(class, (name, ..))| {
        let of_class = report.arrivals.iter().filter(|one| one.class == class);
        Series {
            name: (*name).to_owned(),
            points: of_class.map(|one| (one.submitted_s, one.seconds)).collect(),
        }
    });
    let classes: Vec<Series> = classes.collect();
    page.push_str(&plot("Seconds from submission to mailbox", &classes, false));
    page.push_str("</body></html>\n");
    page
}

fn line(name: &str, report: &Report, value: &dyn Fn(&Sample) -> f64) -> Series {
    let step = report.samples.len().div_ceil(POINTS_MAX).max(1);
    // The largest value of each stretch, because peaks matter.
    let stretches = report.samples.chunks(step).filter_map(|stretch| {
        let largest = stretch.iter().map(value).fold(0.0, f64::max);
        Some((stretch.first()?.at_s, largest))
    });
    Series {
        name: name.to_owned(),
        points: stretches.collect(),
    }
}

fn plot(title: &str, series: &[Series], is_line: bool) -> String {
    let all = || series.iter().flat_map(|one| &one.points);
    let right = all().map(|point| point.0).fold(1.0, f64::max);
    let top = all().map(|point| point.1).fold(0.0, f64::max);
    let top = if top > 0.0 { top * 1.05 } else { 1.0 };
    let x = |value: f64| LEFT + value / right * (WIDTH - LEFT);
    let y = |value: f64| (1.0 - value / top) * (HEIGHT - BELOW);
    let mut svg = format!(
        "<h3>{title}</h3>\n<svg viewBox=\"0 -10 {WIDTH} {:.0}\" width=\"100%\">\n",
        HEIGHT + 20.0
    );
    for part in [0.0, 0.5, 1.0] {
        let (value, height) = (top * part, y(top * part));
        let _ = writeln!(
            svg,
            "<line x1=\"{LEFT}\" x2=\"{WIDTH}\" y1=\"{height:.1}\" y2=\"{height:.1}\" stroke=\"#ddd\"/>\
             <text x=\"{:.0}\" y=\"{:.1}\" text-anchor=\"end\" font-size=\"11\">{value:.2}</text>\
             <text x=\"{:.0}\" y=\"{HEIGHT}\" text-anchor=\"end\" font-size=\"11\">{:.0} s</text>",
            LEFT - 6.0,
            height + 4.0,
            x(right * part).max(LEFT + 20.0),
            right * part,
        );
    }
    for (one, colour) in series.iter().zip(COLOURS.iter().cycle()) {
        if is_line {
            let points = one.points.iter();
            let points: Vec<String> = points
                .map(|(at, value)| format!("{:.1},{:.1}", x(*at), y(*value)))
                .collect();
            let _ = writeln!(
                svg,
                "<polyline fill=\"none\" stroke=\"{colour}\" points=\"{}\"/>",
                points.join(" ")
            );
            continue;
        }
        for (at, value) in &one.points {
            let _ = writeln!(
                svg,
                "<circle r=\"2\" fill=\"{colour}\" cx=\"{:.1}\" cy=\"{:.1}\"/>",
                x(*at),
                y(*value)
            );
        }
    }
    svg.push_str("</svg>\n<p>");
    for (one, colour) in series.iter().zip(COLOURS.iter().cycle()) {
        let _ = write!(
            svg,
            "<span style=\"color:{colour}\">{} </span>",
            escaped(&one.name)
        );
    }
    svg.push_str("</p>\n");
    svg
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}
