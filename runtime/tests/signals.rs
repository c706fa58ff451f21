//! Signals, as asyncio's `loop.add_signal_handler`.

mod common;

use std::{
    cell::Cell,
    os::unix::process::ExitStatusExt,
    rc::Rc,
    sync::{Arc, Barrier},
    time::Duration,
};

use common::{child, in_own_process, is_child, ms, open_fds};
use corio_runtime::{
    Backend, Runner, create_task, run,
    signals::{SignalKind, add_signal_handler, ctrl_c, remove_signal_handler, signal},
    time::{sleep, timeout},
    yield_now,
};
use nix::{
    libc::{SIGHUP, SIGINT, SIGTERM},
    sys::signal::{Signal, kill, raise},
    unistd::getpid,
};

#[test]
fn sig_02_a_listener_hears_a_signal_also_one_that_came_before_it_waited() {
    if !in_own_process("sig_02_a_listener_hears_a_signal_also_one_that_came_before_it_waited") {
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
fn sig_01_sig_03_handlers_are_called_in_the_loop_replaced_and_removed() {
    if !in_own_process("sig_01_sig_03_handlers_are_called_in_the_loop_replaced_and_removed") {
        return;
    }
    run(async {
        let calls = Rc::new(Cell::new(0));
        for step in [1, 10] {
            let calls = calls.clone();
            add_signal_handler(SignalKind::TERMINATE, move || calls.set(calls.get() + step)).unwrap();
        }
        raise(Signal::SIGTERM).unwrap();
        assert_eq!(calls.get(), 0, "not in the signal's own context");
        while calls.get() == 0 {
            sleep(ms(1)).await;
        }
        assert_eq!(calls.get(), 10, "the second handler took the place of the first");
        assert!(remove_signal_handler(SignalKind::TERMINATE));
        assert!(!remove_signal_handler(SignalKind::TERMINATE));
    });
}

#[test]
fn sig_01_a_panic_of_a_handler_stays_inside() {
    if !in_own_process("sig_01_a_panic_of_a_handler_stays_inside") {
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
fn sig_02_a_loop_that_listens_to_ctrl_c_is_not_ended_by_it() {
    if !in_own_process("sig_02_a_loop_that_listens_to_ctrl_c_is_not_ended_by_it") {
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
fn sig_02_a_signal_wakes_a_loop_that_sleeps() {
    if !in_own_process("sig_02_a_signal_wakes_a_loop_that_sleeps") {
        return;
    }
    run(async {
        let mut signals = signal(SignalKind::from_raw(nix::libc::SIGALRM)).unwrap();
        let sender = std::thread::spawn(|| {
            std::thread::sleep(ms(10));
            kill(getpid(), Signal::SIGALRM).unwrap();
        });
        assert!(timeout(Duration::from_secs(60), signals.recv()).await.is_ok());
        sender.join().unwrap();
    });
}

#[test]
fn sig_04_loops_of_several_threads_hear_the_same_signal() {
    if !in_own_process("sig_04_loops_of_several_threads_hear_the_same_signal") {
        return;
    }
    let all_listen = Arc::new(Barrier::new(3));
    let loops: Vec<_> = (0..3)
        .map(|n| {
            let all_listen = all_listen.clone();
            std::thread::spawn(move || {
                run(async {
                    let mut signals = signal(SignalKind::USER_DEFINED2).unwrap();
                    all_listen.wait();
                    if n == 0 {
                        kill(getpid(), Signal::SIGUSR2).unwrap();
                    }
                    signals.recv().await;
                });
            })
        })
        .collect();
    loops.into_iter().for_each(|thread| thread.join().unwrap());
}

/// Runs `test` in a child, where `ends` ends the process by `signal`.
fn ended_by(test: &str, signal: i32, ends: impl FnOnce()) {
    if is_child(test) {
        ends();
        unreachable!("the signal ends the process");
    }
    let status = child(test).output().unwrap().status;
    assert_eq!(status.signal(), Some(signal), "{status:?}");
}

#[test]
fn sig_07_the_end_of_a_loop_brings_the_default_action_back() {
    ended_by("sig_07_the_end_of_a_loop_brings_the_default_action_back", SIGTERM, || {
        run(async {
            let mut signals = signal(SignalKind::TERMINATE).unwrap();
            add_signal_handler(SignalKind::TERMINATE, || ()).unwrap();
            raise(Signal::SIGTERM).unwrap();
            signals.recv().await;
        });
        raise(Signal::SIGTERM).unwrap();
    });
}

#[test]
fn sig_08_a_removed_handler_of_sigint_brings_the_default_action_back() {
    ended_by("sig_08_a_removed_handler_of_sigint_brings_the_default_action_back", SIGINT, || {
        run(async {
            add_signal_handler(SignalKind::INTERRUPT, || unreachable!("it was removed")).unwrap();
            assert!(remove_signal_handler(SignalKind::INTERRUPT));
            raise(Signal::SIGINT).unwrap();
        });
    });
}

#[test]
fn sig_08_a_removed_handler_of_sighup_brings_the_default_action_back() {
    ended_by("sig_08_a_removed_handler_of_sighup_brings_the_default_action_back", SIGHUP, || {
        run(async {
            add_signal_handler(SignalKind::HANGUP, || unreachable!("it was removed")).unwrap();
            assert!(remove_signal_handler(SignalKind::HANGUP));
            raise(Signal::SIGHUP).unwrap();
        });
    });
}

#[test]
fn sig_01_what_cannot_be_handled_is_refused() {
    run(async {
        for number in [nix::libc::SIGKILL, nix::libc::SIGSTOP, 0, -1, 65, 9999] {
            let kind = SignalKind::from_raw(number);
            assert!(signal(kind).is_err() && add_signal_handler(kind, || ()).is_err(), "{number}");
            assert!(!remove_signal_handler(kind), "{number}");
        }
    });
    let mut runner = Runner::builder().backend(Backend::Sim { seed: 1 }).build().unwrap();
    let error = runner.run(async { signal(SignalKind::HANGUP).unwrap_err() });
    assert!(error.to_string().contains("the simulator has no signals"));
}

#[test]
fn sig_07_listeners_leave_no_descriptor_behind() {
    if !in_own_process("sig_07_listeners_leave_no_descriptor_behind") {
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
