# SPDX-License-Identifier: Apache-2.0
# What the system says this process holds, in KiB. Linux only.


def status(name):
    with open("/proc/self/status") as lines:
        for line in lines:
            if line.startswith(name + ":"):
                return int(line.split()[1])
    return 0


def resident_kilobytes():
    return status("VmRSS")


def anonymous_kilobytes():
    return status("RssAnon")


def peak_kilobytes():
    return status("VmHWM")


def reset_peak():
    """From here on VmHWM counts anew."""
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")
