//! Rows of measurements, and tables of them.

use std::fmt::Write;

use serde::Serialize;

/// One runtime on one network, batch and number of threads.
#[derive(Clone, Serialize)]
pub struct Row {
    pub network: String,
    pub batch: usize,
    pub threads: usize,
    pub peer: String,
    pub version: String,
    /// median over the rounds
    pub median_ms: f64,
    pub min_ms: f64,
    /// its time divided by ours, round by round; the median of that
    pub ratio: f64,
    pub rounds: usize,
    /// largest difference from PyTorch's logits, relative to the largest logit
    pub error: f64,
    /// two operations a multiply-add of the network, whatever the algorithm does
    pub gflops: f64,
    /// multiply-adds on registers, all threads, measured between the slices
    pub fma_gflops: f64,
    /// reads from memory, all threads
    pub read_gbs: f64,
}

impl Row {
    /// Is it this project, in whatever build?
    pub fn ours(&self) -> bool {
        self.peer.starts_with("residual")
    }

    fn same_case(&self, other: &Row) -> bool {
        (&self.network, self.batch, self.threads) == (&other.network, other.batch, other.threads)
    }
}

/// Rows of one network, batch and number of threads, ours first.
pub fn cases(rows: &[Row]) -> impl Iterator<Item = &[Row]> {
    rows.chunk_by(Row::same_case)
}

/// A table for each number of threads, peers as columns.
pub fn markdown(rows: &[Row]) -> String {
    let mut threads: Vec<usize> = rows.iter().map(|row| row.threads).collect();
    threads.sort_unstable();
    threads.dedup();
    let mut peers: Vec<&Row> = Vec::new();
    for row in rows {
        if peers.iter().all(|known| known.peer != row.peer) {
            peers.push(row);
        }
    }
    let mut text = String::from("Times slower than this project, median of rounds (median ms in parentheses).\n");
    for threads in threads {
        let _ = write!(
            text,
            "\n### {threads} thread{}\n\n| network, batch | best peer |",
            if threads == 1 { "" } else { "s" }
        );
        for peer in &peers {
            let _ = write!(text, " {} {} |", peer.peer, peer.version);
        }
        let _ = write!(
            text,
            " of FMA peak | FMA peak GFLOP/s | reads GB/s |\n|---|---|{}---|---|---|\n",
            "---|".repeat(peers.len())
        );
        for case in cases(rows).filter(|case| case[0].threads == threads) {
            let ours = &case[0];
            let best = case.iter().filter(|row| !row.ours()).min_by(|a, b| a.ratio.total_cmp(&b.ratio));
            let best = best.map_or_else(|| "-".to_owned(), |best| format!("**{:.2}** {}", best.ratio, best.peer));
            let _ = write!(text, "| {}, {} | {best} |", ours.network, ours.batch);
            for peer in &peers {
                let _ = match case.iter().find(|row| row.peer == peer.peer) {
                    Some(row) => write!(text, " {:.2} ({}) |", row.ratio, milliseconds(row.median_ms)),
                    None => write!(text, " - |"),
                };
            }
            let share = 100.0 * ours.gflops / ours.fma_gflops;
            let _ = writeln!(text, " {share:.0}% | {:.0} | {:.1} |", ours.fma_gflops, ours.read_gbs);
        }
    }
    text
}

/// Three digits that matter.
fn milliseconds(ms: f64) -> String {
    match ms {
        100.0.. => format!("{ms:.0}"),
        10.0.. => format!("{ms:.1}"),
        1.0.. => format!("{ms:.2}"),
        _ => format!("{ms:.3}"),
    }
}

#[cfg(test)]
pub mod tests {
    use super::{Row, markdown};

    pub fn row(network: &str, threads: usize, peer: &str, median_ms: f64, ratio: f64) -> Row {
        let (network, peer, version) = (network.into(), peer.into(), "1".into());
        Row {
            network,
            batch: 1,
            threads,
            peer,
            version,
            median_ms,
            min_ms: median_ms,
            ratio,
            rounds: 3,
            error: 0.0,
            gflops: 100.0,
            fma_gflops: 200.0,
            read_gbs: 16.0,
        }
    }

    #[test]
    fn the_best_peer_is_the_one_nearest_to_us_and_never_ourselves() {
        let rows = [
            row("resnet18", 1, "residual", 10.0, 1.0),
            row("resnet18", 1, "residual-direct", 11.0, 1.1),
            row("resnet18", 1, "slow", 130.0, 13.0),
            row("resnet18", 1, "good", 14.0, 1.4),
            row("resnet18", 2, "residual", 5.0, 1.0),
        ];
        let text = markdown(&rows);
        assert!(text.contains(
            "| resnet18, 1 | **1.40** good | 1.00 (10.0) | 1.10 (11.0) | 13.00 (130) | 1.40 (14.0) | 50% | 200 | 16.0 |"
        ));
        assert!(text.contains("| resnet18, 1 | - | 1.00 (5.00) | - | - | - |"), "{text}");
    }
}
