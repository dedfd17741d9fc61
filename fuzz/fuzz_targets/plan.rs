//! Plan files of `residual tune`, for a small network.
#![no_main]

use std::sync::LazyLock;

use residual::{Isa, graph::Graph, plan::{Options, Plan}, resnet};

#[allow(dead_code)]
#[path = "../../src/cli/plan_file.rs"]
mod plan_file;

static GRAPH: LazyLock<Graph> = LazyLock::new(|| {
    let net = "resnet8-cifar".parse().expect("a network's name");
    resnet::graph(&net).expect("a network")
});

libfuzzer_sys::fuzz_target!(|text: &str| {
    let options = Options { isa: Isa::PORTABLE, ..Options::default() };
    match plan_file::PlanFile::parse(text, &GRAPH, &options) {
        Ok(plan) => {
            let mut graph = GRAPH.clone();
            plan.apply(&mut graph);
            // Kernels that a layer cannot have are refused or ignored.
            let _ = Plan::new(&graph, &options);
        }
        Err(error) => assert!(!format!("{error:#}").contains('\n')),
    }
});
