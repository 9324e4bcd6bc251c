"""What is in force per subject: fold, renew, release."""
