"""A stand-in for mongod, where no image registry gives one.

``front`` takes mongod's flags and file, speaks its wire protocol, and answers what concerns the server and its replica
set by mongod's own rules (``rules``); data, users and logins it hands on to SecantusDB, a server with MongoDB's protocol
over WiredTiger. The tests put several members under the same rules into one process, without data files.
Imports inside are relative: the image holds this folder alone.
"""
