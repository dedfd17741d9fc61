//! A static library with a Rust runtime of its own, to be linked beside `libresidual.a`.

/// 1 if a panic is caught here, with this library's own runtime.
#[unsafe(no_mangle)]
pub extern "C" fn other_catches() -> i32 {
    std::panic::set_hook(Box::new(|_| {}));
    let thread = std::thread::spawn(|| {
        let text = format!("{:?}", std::env::args().count());
        std::panic::panic_any(text)
    });
    thread.join().is_err().into()
}
