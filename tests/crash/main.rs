//! Kills at random moments, power cuts, full disks: nobody is lost, nobody is moved twice.
