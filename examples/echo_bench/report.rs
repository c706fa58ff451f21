//! The table and the latency picture.

use std::fmt::Write;

use hdrhistogram::Histogram;

use crate::{Args, load::Measured};

/// Widest bar, in characters.
const BAR: usize = 48;

pub(crate) fn table(args: &Args, measured: &Measured, backend: &str) -> String {
    let seconds = measured.elapsed.as_secs_f64();
    let rate = measured.messages as f64 / seconds;
    let megabytes = rate * f64::from(args.size) / 1e6;
    let micros = |quantile| measured.latencies.value_at_quantile(quantile) as f64 / 1e3;
    let per_message = measured.server_time.as_nanos() as f64 / measured.messages.max(1) as f64;
    let rows = [
        ("messages per second", format!("{rate:.0}")),
        ("MB per second, each way", format!("{megabytes:.1}")),
        ("latency p50", format!("{:.1} µs", micros(0.5))),
        ("latency p99", format!("{:.1} µs", micros(0.99))),
        ("latency p99.9", format!("{:.1} µs", micros(0.999))),
        ("latency max", format!("{:.1} µs", measured.latencies.max() as f64 / 1e3)),
        ("server CPU per message", format!("{per_message:.0} ns")),
        ("server CPU in use", format!("{:.0} %", 100.0 * measured.server_time.as_secs_f64() / seconds)),
    ];
    let mut out = format!(
        "on {backend}\n{} connections, {} B messages, {} in flight each, {seconds:.1} s, every reply checked\n\n",
        args.connections, args.size, args.pipeline
    );
    for (name, value) in rows {
        let _ = writeln!(out, "  {name:<26} {value:>14}");
    }
    out
}

/// Latencies in steps of the square root of two, from the fastest message to the slowest.
pub(crate) fn picture(latencies: &Histogram<u64>) -> String {
    let mut out = String::from("\nlatency, by the share of messages\n");
    if latencies.is_empty() {
        return out + "  no message was measured\n";
    }
    let mut steps = Vec::new();
    let mut low = latencies.min().max(1) as f64;
    while low <= latencies.max() as f64 {
        let high = low * std::f64::consts::SQRT_2;
        let from = if steps.is_empty() { 0 } else { low as u64 };
        steps.push((high, latencies.count_between(from, (high as u64).saturating_sub(1))));
        low = high;
    }
    let most = steps.iter().map(|(_, count)| *count).max().unwrap_or(1).max(1);
    for (high, count) in steps {
        let share = 100.0 * count as f64 / latencies.len() as f64;
        let _ = writeln!(out, "  <{:>9.1} µs {share:>6.2} % {}", high / 1e3, bar(count, most));
    }
    out
}

/// A bar in eighths of a character.
fn bar(count: u64, most: u64) -> String {
    let eighths = (count as f64 / most as f64 * (BAR * 8) as f64).round() as usize;
    let part = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"][eighths % 8];
    "█".repeat(eighths / 8) + part
}
