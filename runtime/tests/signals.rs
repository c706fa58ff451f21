//! Signals, as asyncio's `loop.add_signal_handler`.

mod common;

use std::{cell::Cell, os::unix::process::ExitStatusExt, process::Command, rc::Rc, time::Duration};

use common::{in_own_process, is_child, ms, open_fds};
use corio_runtime::{
    Backend, Runner, create_task, run,
    signals::{SignalKind, add_signal_handler, ctrl_c, remove_signal_handler, signal},
    time::{sleep, timeout},
    yield_now,
};
use nix::{
    libc::SIGTERM,
    sys::signal::{Signal, kill, raise},
    unistd::getpid,
};

#[test]
fn sig_a_listener_hears_a_signal_also_one_that_came_before_it_waited() {
    if !in_own_process("sig_a_listener_hears_a_signal_also_one_that_came_before_it_waited") {
        return;
    }
    run(async {
        let mut one = signal(SignalKind::USER_DEFINED1).unwrap();
        let mut other = signal(SignalKind::USER_DEFINED1).unwrap();
        raise(Signal::SIGUSR1).unwrap();
        raise(Signal::SIGUSR1).unwrap();
        one.recv().await;
        other.recv().await;
        assert!(timeout(ms(5), one.recv()).await.is_err(), "two that came at once count as one");
        let waits = create_task(async move { one.recv().await });
        yield_now().await;
        kill(getpid(), Signal::SIGUSR1).unwrap();
        waits.await.unwrap();
        assert!(timeout(ms(5), other.recv()).await.is_ok(), "a dropped recv loses none");
    });
}

#[test]
fn sig_handlers_are_called_in_the_loop_replaced_and_removed() {
    if !in_own_process("sig_handlers_are_called_in_the_loop_replaced_and_removed") {
        return;
    }
    run(async {
        let calls = Rc::new(Cell::new(0));
        for step in [1, 10] {
            let calls = calls.clone();
            add_signal_handler(SignalKind::TERMINATE, move || calls.set(calls.get() + step)).unwrap();
        }
        raise(Signal::SIGTERM).unwrap();
        while calls.get() == 0 {
            sleep(ms(1)).await;
        }
        assert_eq!(calls.get(), 10, "the second handler took the place of the first");
        assert!(remove_signal_handler(SignalKind::TERMINATE));
        assert!(!remove_signal_handler(SignalKind::TERMINATE));
    });
}

#[test]
fn sig_a_panic_of_a_handler_stays_inside() {
    if !in_own_process("sig_a_panic_of_a_handler_stays_inside") {
        return;
    }
    run(async {
        let heard = Rc::new(Cell::new(false));
        let flag = heard.clone();
        corio_runtime::set_exception_handler(move |_| flag.set(true));
        add_signal_handler(SignalKind::HANGUP, || panic!("in the handler")).unwrap();
        raise(Signal::SIGHUP).unwrap();
        while !heard.get() {
            sleep(ms(1)).await;
        }
    });
}

#[test]
fn sig_a_loop_that_listens_to_ctrl_c_is_not_ended_by_it() {
    if !in_own_process("sig_a_loop_that_listens_to_ctrl_c_is_not_ended_by_it") {
        return;
    }
    run(async {
        for _ in 0..3 {
            let pressed = create_task(ctrl_c());
            yield_now().await;
            raise(Signal::SIGINT).unwrap();
            pressed.await.unwrap().unwrap();
        }
    });
}

#[test]
fn sig_without_a_listener_the_default_action_is_back() {
    const TEST: &str = "sig_without_a_listener_the_default_action_is_back";
    if is_child(TEST) {
        run(async {
            let mut signals = signal(SignalKind::TERMINATE).unwrap();
            raise(Signal::SIGTERM).unwrap();
            signals.recv().await;
        });
        raise(Signal::SIGTERM).unwrap();
        unreachable!("SIGTERM ends the process");
    }
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", TEST, "--test-threads=1"])
        .env("CORIO_TEST_CHILD", TEST)
        .output()
        .unwrap()
        .status;
    assert_eq!(status.signal(), Some(SIGTERM), "{status:?}");
}

#[test]
fn sig_what_cannot_be_handled_is_refused() {
    run(async {
        for number in [nix::libc::SIGKILL, nix::libc::SIGSTOP, 0, 9999] {
            assert!(signal(SignalKind::from_raw(number)).is_err(), "{number}");
        }
    });
    let mut runner = Runner::builder().backend(Backend::Sim { seed: 1 }).build().unwrap();
    let error = runner.run(async { signal(SignalKind::HANGUP).unwrap_err() });
    assert!(error.to_string().contains("the simulator has no signals"));
}

#[test]
fn sig_listeners_leave_no_descriptor_behind() {
    if !in_own_process("sig_listeners_leave_no_descriptor_behind") {
        return;
    }
    run(async {});
    let fds = open_fds();
    for _ in 0..20 {
        run(async {
            let mut signals = signal(SignalKind::USER_DEFINED2).unwrap();
            add_signal_handler(SignalKind::USER_DEFINED2, || ()).unwrap();
            let kept = create_task(async move { signals.recv().await });
            assert!(timeout(Duration::from_micros(100), kept).await.is_err());
        });
    }
    assert_eq!(open_fds(), fds);
}
